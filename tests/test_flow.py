"""The lowest allowed rate of bytes in each period."""

from longtake.flow import Flow, Period


def test_each_period_that_is_too_slow_is_found() -> None:
    flow = Flow(100.0, 10.0)
    flow.restart(50.0, 7)
    assert flow.slow_period(59.9, 7) is None
    assert flow.slow_period(60.0, 1007) is None
    assert flow.slow_period(69.9, 1007) is None
    assert flow.slow_period(80.0, 2007) == Period(20.0, 50.0)
    assert flow.slow_period(90.0, 3007) is None
    assert flow.slow_period(100.0, 4006) == Period(10.0, 99.9)


def test_a_restart_forgets_a_slow_beginning() -> None:
    flow = Flow(100.0, 10.0, now=50.0)
    flow.restart(59.0, 3)
    assert flow.slow_period(60.0, 3) is None
    assert flow.slow_period(69.0, 1003) is None


def test_a_count_may_be_negative() -> None:
    flow = Flow(100.0, 10.0)
    flow.restart(0.0, -5000)
    assert flow.slow_period(10.0, -4000) is None
    assert flow.slow_period(20.0, -3001) == Period(10.0, 99.9)
