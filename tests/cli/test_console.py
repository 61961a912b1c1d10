"""Texts and progress on a terminal."""

import pytest

from longtake.cli.console import StageShare, bytes_text
from longtake.video import Progress


def test_the_share_of_a_stage_grows_over_windows_and_passes() -> None:
    share = StageShare(passes=2)
    work = [
        Progress("sampling", step, steps, window, 2) for window in (1, 2) for steps in (7, 3) for step in range(steps)
    ]
    done = [share.of(progress) for progress in work]
    assert done == sorted(done)
    assert (done[0], done[7], done[10]) == (0, 0.25, 0.5)
    assert done[-1] < 1


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (999_600, "1.0 MB"), (28_600_000_000, "28.6 GB")]
)
def test_bytes_are_shown_in_powers_of_a_thousand(count: int, text: str) -> None:
    assert bytes_text(count) == text
