"""Texts and progress on a terminal."""

import json
import signal

import pytest
import typer

from longtake.cli.console import ProgressLines, bytes_text, place_text, print_rows, progress_shown, reporting
from longtake.errors import InvalidRequest
from longtake.video import Progress


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (999_600, "1.0 MB"), (28_600_000_000, "28.6 GB")]
)
def test_bytes_are_shown_in_powers_of_a_thousand(count: int, text: str) -> None:
    assert bytes_text(count) == text


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_lines_of_progress_say_the_share_and_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    on_progress = ProgressLines(clock)
    for clock.now, step in ((1.0, 0), (4.0, 0), (12.0, 0), (13.0, 1), (31.0, 5)):
        on_progress(Progress("frames", step, 10))
    assert capsys.readouterr().err.splitlines() == [
        "[   1.0 s] Decoding new frames",
        "[  12.0 s] Decoding new frames, still at work",
        "[  31.0 s] Decoding new frames: 50%, about 30 s left",
    ]


def test_lines_of_progress_go_on_while_no_report_comes(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    on_progress = ProgressLines(clock)
    on_progress.tick()
    on_progress(Progress("sampling", 3, 4, 2, 2, 1, 2))
    for clock.now in (9.0, 11.0, 12.0, 21.5):
        on_progress.tick()
    assert capsys.readouterr().err.splitlines() == [
        "[   0.0 s] Sampling new frames in 2 windows",
        "[  11.0 s] Sampling new frames: 69% (window 2/2, pass 1/2, step 4/4)",
        "[  21.5 s] Sampling new frames: 69% (window 2/2, pass 1/2, step 4/4)",
    ]


def test_the_time_left_falls_while_no_report_comes(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    on_progress = ProgressLines(clock)
    for clock.now, step in ((0.0, 0), (10.0, 1)):
        on_progress(Progress("frames", step, 4))
    for clock.now in (20.0, 30.0, 40.0):
        on_progress.tick()
    assert capsys.readouterr().err.splitlines() == [
        "[   0.0 s] Decoding new frames",
        "[  10.0 s] Decoding new frames: 25%, about 30 s left",
        "[  20.0 s] Decoding new frames: 25%, about 20 s left",
        "[  30.0 s] Decoding new frames: 25%, about 10 s left",
        "[  40.0 s] Decoding new frames: 25%",
    ]


def test_a_place_names_only_what_there_is_several_of() -> None:
    assert place_text(Progress("sampling", 0, 3, 1, 1, 2, 2)) == "pass 2/2, step 1/3"
    assert place_text(Progress("sampling", 0, 8, 1, 3)) == "window 1/3, step 1/8"
    assert place_text(Progress("frames", 8, 80)) == ""


def test_a_broken_package_of_the_models_names_the_extra(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), reporting(as_json=False, debug=False):
        raise ModuleNotFoundError("No module named 'torch.none'", name="torch.none")
    reason = "The libraries of the models cannot be imported (ModuleNotFoundError: No module named 'torch.none'). "
    advice = "Install them again: pip install '.[torch]' in a clone of longtake.\n"
    assert capsys.readouterr().err == f"Error: {reason}{advice}"


def test_a_misspelt_setting_is_named_by_every_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGTAKE_QUANTIZE", "fp8")
    with reporting(as_json=True, debug=False):
        pass
    printed = capsys.readouterr()
    hint = "perhaps LONGTAKE_QUANTISE is meant"
    assert printed.err == f"LONGTAKE_QUANTIZE: no such setting, so it has no effect; {hint}.\n"
    assert printed.out == ""


STOPPED = [(signal.SIGINT, "Ctrl-C (SIGINT)"), (signal.SIGTERM, "SIGTERM")]


@pytest.mark.parametrize(("number", "name"), STOPPED)
@pytest.mark.parametrize("consequence", [None, InvalidRequest("The child has ended."), EOFError(), typer.Abort()])
def test_a_command_says_which_signal_stopped_it(
    number: signal.Signals, name: str, consequence: Exception | None, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            if consequence is not None:
                raise consequence from None
            raise

    with pytest.raises(typer.Exit) as end, reporting(as_json=True, debug=False):
        interrupted()
    out, err = capsys.readouterr()
    assert (end.value.exit_code, err) == (130, f"Error: {name} stopped the command.\n")
    assert json.loads(out)["detail"][0]["msg"] == f"{name} stopped the command."


def test_a_question_that_the_user_ends_is_no_signal() -> None:
    with pytest.raises(typer.Abort), reporting(as_json=False, debug=False):
        raise typer.Abort


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows("Title", [("prompt", "a\x1b[31mred\x07\nsecond line\tof é\u3000日本\x9b")])
    assert (
        capsys.readouterr().out == "Title\n  prompt  a\\x1b[31mred\\x07\n          second line\tof é\u3000日本\\x9b\n"
    )
    with pytest.raises(typer.Exit), reporting(as_json=False, debug=False):
        raise InvalidRequest("There is no file '\x1b]0;title\x07'.")
    assert capsys.readouterr().err == "Error: There is no file '\\x1b]0;title\\x07'.\n"


def test_a_bar_fits_into_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # rich then draws, although no terminal is there
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress_shown(quiet=False) as on_progress:
        on_progress(Progress("sampling", 10, 27, 12, 14, 2, 2))
    drawn = capsys.readouterr().err
    assert "Sampling window 12/14, pass 2/2, step 11/27" in drawn
    assert "83%" in drawn
    assert "0:00:00" in drawn
    assert "…" not in drawn
