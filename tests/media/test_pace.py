"""Downloads that are too slow are found in each window of time."""

import pytest

from longtake.media.pace import Meter, Pace, TooSlow


def test_each_window_of_a_download_is_measured() -> None:
    meter = Meter("x", Pace(min_rate=1024, window_s=30, total_s=60))
    meter.check(50)  # the answer has not begun
    meter.start(50)
    for at, num_bytes in ((60, 1_000_000), (80, 10), (81, 20_000), (110, 11_000), (139, 40)):
        meter.add(num_bytes, at)
    with pytest.raises(TooSlow, match=r"x delivered 0 KB/s over 30 s; a download needs at least 1 KB/s\."):
        meter.check(140)
