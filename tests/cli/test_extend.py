"""`longtake extend` from source files to finished files."""

import base64
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from longtake.cli import app
from longtake.media.source import open_source
from tests.cli.running import Ran, run, started

FEW_STEPS = ("--first-pass-num-inference-steps", "2")


@pytest.fixture(scope="session")
def extended(clips: Path, model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, Path]:
    """A clip extended by 8 frames with --json and --inspect: the command and its output file."""
    path = tmp_path_factory.mktemp("extended") / "long.mp4"
    args = ("extend", clips / "clip.mp4", "-o", path, "--prompt", "a red disc", "--resolution", "480p", *FEW_STEPS)
    return run(*args, "--new-frames", "8", "--write-mode", "fast", "--seed", "7", "--json", "--inspect"), path


def test_the_json_document_has_the_endpoints_shape_and_the_files_facts(extended: tuple[Ran, Path]) -> None:
    ran, path = extended
    assert ran.status == 0, ran.err
    video = ran.document["video"]
    assert video["url"] == path.resolve().as_uri()
    assert video["file_size"] == path.stat().st_size
    assert (video["width"], video["height"], video["num_frames"], video["fps"]) == (640, 480, 32, 24)
    assert (video["content_type"], video["file_name"]) == ("video/mp4", "long.mp4")
    assert video["duration"] == pytest.approx(32 / 24)
    assert (ran.document["prompt"], ran.document["seed"]) == ("a red disc", 7)
    assert (ran.document["plan"]["shown_frames"], ran.document["plan"]["new_frames"]) == (24, 8)
    assert any("safety checker did not run" in note for note in ran.document["notes"])
    assert ran.document["model"] == ran.document["plan"]["model"]
    assert (ran.document["stands_in_for"] is None) == (not any("stands in for" in n for n in ran.document["notes"]))
    assert ran.document["seconds"] > 0
    assert ran.document["plan"]["price_usd"] == pytest.approx(32 / 24 * 0.02)
    assert (ran.document["plan"]["rate"], ran.document["plan"]["rate_exact"]) == (24, "24")


def test_json_output_leaves_standard_error_empty(extended: tuple[Ran, Path]) -> None:
    assert extended[0].err == ""


def test_inspect_measures_the_joint_and_draws_it_beside_the_output(extended: tuple[Ran, Path]) -> None:
    ran, path = extended
    joint = ran.document["joint"]
    assert (joint["frame"], joint["sheet"]) == (24, str(path.with_name("long-joint.png")))
    assert joint["sharpness_ratio"] > 0
    with Image.open(joint["sheet"]) as sheet:
        assert sheet.format == "PNG"


def test_only_the_output_and_the_sheet_remain(extended: tuple[Ran, Path]) -> None:
    assert sorted(file.name for file in extended[1].parent.iterdir()) == ["long-joint.png", "long.mp4"]


def test_an_existing_output_is_overwritten_only_with_force(extended: tuple[Ran, Path], clips: Path) -> None:
    path = extended[1]
    before = path.stat().st_mtime_ns
    ran = run("extend", clips / "clip.mp4", "-o", path, "--prompt", "sea")
    assert (ran.status, "--force" in ran.err, path.stat().st_mtime_ns) == (2, True, before)


def test_a_process_finishes_one_video_and_an_interrupt_ends_the_next_without_a_file(
    clips: Path, out: Path, model: str
) -> None:
    finished: list[str | Path] = [
        "extend", clips / "film.mp4", "-o", out / "a.gif", "--prompt", "sea", "--resolution", "480p",
        "--new-frames", "7", "--reverse-video", "--quality", "low", "--inspect",
        *FEW_STEPS,
    ]  # fmt: skip
    interrupted: list[str | Path] = [
        "extend",
        clips / "clip.mp4",
        "-o",
        out / "b.mp4",
        "--prompt",
        "sea",
        "--new-frames",
        "1000",
    ]
    until_sampling = [
        "Loading the libraries",
        "Reading the source",
        "Loading the model",
        "Reading the prompt",
        "Encoding the frames to continue",
        "Sampling new frames",
    ]
    with started(finished, interrupted) as process:
        assert process.stderr is not None
        lines = iter(process.stderr)
        whole = [*until_sampling, "Decoding new frames", "Writing new frames", "Writing backwards"]
        assert list(stages(lines, last="Writing backwards")) == whole
        assert list(stages(lines, last="Sampling new frames")) == until_sampling
        process.send_signal(signal.SIGINT)
        facts, errors = process.communicate()
    for expected in ("24 = 7 new + 17 of the source", "ltxv-tiny", "before frame 7", str(out / "a.gif")):
        assert expected in facts
    with Image.open(out / "a.gif") as gif:
        assert gif.size == (480, 360)
    assert (process.returncode, errors.splitlines()[-1]) == (130, "Error: Ctrl-C (SIGINT) stopped the command.")
    assert sorted(file.name for file in out.iterdir()) == ["a-joint.png", "a.gif"]


def stages(lines: Iterator[str], last: str) -> Iterator[str]:
    """Reads the names of stages from lines of progress, each once, up to and including the last one.

    On a busy machine a stage has several lines, such as "Loading the model, still at work". The stage "Writing the
    source" is left out: the source is written while the model works, and the stage is shown only if that takes longer.
    """
    before = ""
    for line in lines:
        name = re.split(r", |: ", line.rstrip().partition("] ")[2].partition(" in ")[0])[0]
        if name == "Writing the source":
            continue
        if name != before:
            yield name
        before = name
        if name == last:
            break


def test_the_webm_of_a_model_with_sound_has_the_requested_size_and_sound(
    clips: Path, out: Path, model_with_sound: str
) -> None:
    path = out / "a.webm"
    ran = run(
        "extend", clips / "clip.mp4", "-o", path, "--prompt", "a red disc", "--endpoint", "2.3",
        "--num-inference-steps", "8", "--new-frames", "9", "--video-size", "142x80", "--write-mode", "fast",
        "--no-use-multiscale", "--video-stg-scale", "0", "--audio-stg-scale", "0", "--sync-mode", "--json",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    video, plan = ran.document["video"], ran.document["plan"]
    assert (video["width"], video["height"], video["num_frames"]) == (142, 80, 33)
    assert (plan["family"], plan["model"], plan["new_frames"]) == ("ltx2", model_with_sound, 9)
    head, data = video["url"].split(",")
    assert head == "data:video/webm;base64"
    assert base64.b64decode(data) == path.read_bytes()
    with open_source(path) as file:
        assert (file.facts.codec, file.facts.sound is not None) == ("vp9", True)


def test_with_json_an_error_is_printed_in_the_shape_of_the_http_api(clips: Path, out: Path) -> None:
    ran = run("extend", clips / "clip.mp4", "-o", out / "a.mp4", "--prompt", "sea", "--strength", "2", "--json")
    (detail,) = ran.document["detail"]
    assert (detail["loc"], detail["input"]) == (["body", "video", "strength"], 2)
    assert ran.err == f"Error: --strength: {detail['msg']}\n"


def test_an_internal_failure_points_to_debug_which_shows_the_traceback(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise KeyError("lost")

    monkeypatch.setattr("longtake.settings.settings", fail)
    ran = run("plan", clips / "clip.mp4", "--prompt", "sea")
    assert ran.status == 1
    assert (
        ran.err == "Error: Something failed inside longtake (KeyError: 'lost'); run with --debug for the traceback.\n"
    )
    with pytest.raises(KeyError):
        CliRunner().invoke(app, ["plan", "a.mp4", "--debug"], catch_exceptions=False)
