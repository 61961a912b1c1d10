"""Jobs that use one device one after the other."""

import threading
from typing import Any

import pytest

from longtake.models.registry import card
from longtake.runner import Runner
from longtake.settings import settings
from longtake.turn import Turn, TurnState
from longtake.video import Progress, ignore_progress


def test_a_job_waits_until_the_other_has_ended_its_turn() -> None:
    device, states, other_began = threading.Lock(), list[TurnState](), threading.Event()
    first, second = Turn(device), Turn(device, states.append)

    def use() -> None:
        second.begin(lambda progress: states.append("soon free" if progress.stage != "waiting" else "waits"))
        other_began.set()

    first.begin(ignore_progress)
    waiting = threading.Thread(target=use)
    waiting.start()
    assert not other_began.wait(0.2)
    first.end()
    waiting.join()
    assert (states[0], states[-1], set(states)) == ("waits", "uses", {"waits", "uses"})


def test_a_turn_begins_and_ends_once() -> None:
    """A job that is tried again keeps its turn, and the device is no longer soon free."""
    device, states = threading.Lock(), list[TurnState]()
    turn = Turn(device, states.append)
    assert not turn.begin(ignore_progress)
    turn.watched(ignore_progress)(Progress("sampling", 3, 4))
    assert not turn.begin(ignore_progress)
    assert states == ["uses", "soon free", "uses"]
    turn.end()
    turn.end()
    assert not device.locked()


def test_a_cancelled_job_stops_waiting_and_leaves_the_device_to_the_other() -> None:
    device = threading.Lock()
    first, second = Turn(device), Turn(device)
    first.begin(ignore_progress)

    def cancel(_: Progress) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        second.begin(cancel)
    second.end()
    assert device.locked()


def test_the_device_is_soon_free_when_the_last_step_of_the_last_pass_begins() -> None:
    states, passed = list[TurnState](), list[Progress]()
    report = Turn(on_state=states.append).watched(passed.append)
    early = [
        Progress("prompt", 0, 1),
        Progress("sampling", 7, 8, window=1, windows=2, pass_number=2, passes=2),
        Progress("sampling", 7, 8, window=2, windows=2, pass_number=1, passes=2),
        Progress("sampling", 2, 4, window=2, windows=2, pass_number=2, passes=2),
    ]
    for progress in early:
        report(progress)
    assert states == []
    last = Progress("sampling", 3, 4, window=2, windows=2, pass_number=2, passes=2)
    report(last)
    assert states == ["soon free"]
    assert passed == [*early, last]


def test_a_model_that_another_job_releases_while_it_is_looked_up_is_used() -> None:
    """A job that runs out of memory after its turn releases the model, which another job may just get."""
    wanted = card("ltxv-tiny")

    class Model:
        @property
        def card(self) -> Any:
            runner.release()
            return wanted

    model: Any = Model()
    runner = Runner(settings(), load_model=lambda *_: model)
    assert runner.load(wanted) is model
    assert runner.load(wanted) is model
