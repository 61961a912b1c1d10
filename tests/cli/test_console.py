"""Texts and progress on a terminal."""

import pytest
import typer

from longtake.cli.console import StageShare, bytes_text, progress_lines, reporting
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


def test_the_share_of_a_stage_that_begins_anew_does_not_fall() -> None:
    share = StageShare.for_stage("context", passes=2)
    assert [share.of(Progress("context", step, 4)) for step in (1, 3, 0, 4)] == [0.25, 0.75, 0.75, 1.0]


def test_lines_of_progress_say_the_share_and_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 1.0, 4.0, 12.0, 13.0, 31.0])
    on_progress = progress_lines(1, lambda: next(times))
    for step in (0, 0, 0, 1, 5):
        on_progress(Progress("frames", step, 10))
    assert capsys.readouterr().err.splitlines() == [
        "[   1.0 s] Decoding and encoding",
        "[  12.0 s] Decoding and encoding, still at work",
        "[  31.0 s] Decoding and encoding: 50%, about 30 s left",
    ]


def test_a_missing_package_of_the_models_names_the_extra(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), reporting(as_json=False, debug=False):
        raise ModuleNotFoundError("No module named 'torch'", name="torch.nn")
    sentence = "torch.nn is not installed, and the models need it: pip install '.[torch]' in a clone of longtake.\n"
    assert capsys.readouterr().err == f"Error: {sentence}"
