"""The command line as people run it: real files in, real files out, and one sentence for whatever is wrong."""

import base64
import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from longtake.cli import app
from longtake.cli.console import StageShare, bytes_text
from longtake.media.source import open_source
from longtake.models.registry import adapters, card, missing
from longtake.settings import Settings
from longtake.video import Progress
from tests.cli.running import SCRIPT, Ran, run, started

HEAVY = ("torch", "diffusers", "transformers", "av", "numpy", "pydantic")


@pytest.fixture(scope="session")
def made(clips: Path, model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, Path]:
    """One clip extended by 8 frames, with --json and --inspect."""
    path = tmp_path_factory.mktemp("made") / "long.mp4"
    what = ("extend", clips / "clip.mp4", "-o", path, "--prompt", "a red disc", "--resolution", "480p")
    return run(*what, "--new-frames", "8", "--seed", "7", "--json", "--inspect"), path


def test_the_json_document_has_the_endpoints_shape_and_the_files_own_facts(made: tuple[Ran, Path]) -> None:
    ran, path = made
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


def test_json_means_silence_elsewhere(made: tuple[Ran, Path]) -> None:
    assert made[0].err == ""


def test_inspect_measures_the_joint_and_draws_it_beside_the_output(made: tuple[Ran, Path]) -> None:
    ran, path = made
    joint = ran.document["joint"]
    assert (joint["frame"], joint["sheet"]) == (24, str(path.with_name("long-joint.png")))
    assert joint["sharpness_ratio"] > 0
    with Image.open(joint["sheet"]) as sheet:
        assert sheet.format == "PNG"


def test_only_the_output_and_the_sheet_are_left(made: tuple[Ran, Path]) -> None:
    assert sorted(file.name for file in made[1].parent.iterdir()) == ["long-joint.png", "long.mp4"]


def test_an_output_is_overwritten_only_by_force(made: tuple[Ran, Path], clips: Path) -> None:
    path = made[1]
    before = path.stat().st_mtime_ns
    ran = run("extend", clips / "clip.mp4", "-o", path, "--prompt", "sea")
    assert (ran.status, "--force" in ran.err, path.stat().st_mtime_ns) == (2, True, before)


def test_a_run_in_a_process_of_its_own_tells_its_stages_and_the_facts(clips: Path, out: Path, model: str) -> None:
    process = started(
        "extend", clips / "film.mp4", "-o", out / "a.gif", "--prompt", "sea", "--resolution", "480p",
        "--new-frames", "7", "--reverse-video", "--quality", "low", "--inspect",
    )  # fmt: skip
    told, stages = process.communicate(timeout=300)
    assert process.returncode == 0, stages
    assert [line.split("] ")[1] for line in stages.splitlines()] == [
        "Loading the model",
        "Reading the source",
        "Reading the prompt",
        "Sampling new frames",
        "Decoding and encoding",
        "Writing backwards",
    ]
    for wanted in ("24 = 7 new + 17 of the source", "ltxv-tiny", "before frame 7", str(out / "a.gif")):
        assert wanted in told
    with Image.open(out / "a.gif") as gif:
        assert gif.size == (480, 360)


@pytest.mark.parametrize("suffix", [".webm", ".mov"])
def test_the_suffix_chooses_the_codec(suffix: str, clips: Path, out: Path, model: str) -> None:
    path = out / f"a{suffix}"
    what = ("extend", clips / "clip.mp4", "-o", path, "--prompt", "sea", "--resolution", "480p", "--new-frames", "1")
    ran = run(*what, "--json", "--write-mode", "fast")
    assert ran.status == 0, ran.err
    assert ran.document["video"]["num_frames"] == 25
    assert ran.document["video"]["content_type"] in ("video/webm", "video/quicktime")


def test_interrupted_in_the_middle_it_ends_with_130_and_leaves_nothing(clips: Path, out: Path, model: str) -> None:
    process = started("extend", clips / "clip.mp4", "-o", out / "a.mp4", "--prompt", "sea", "--new-frames", "1000")
    assert process.stderr is not None
    for line in process.stderr:
        if "Sampling" in line:
            break
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=300)
    assert (process.returncode, list(out.iterdir())) == (130, [])
    assert rest.splitlines()[-1] == "Error: The request was cancelled."


V23 = ("--endpoint", "2.3")


def test_with_json_an_error_is_the_wires_detail_too(clips: Path, out: Path) -> None:
    ran = run("extend", clips / "clip.mp4", "-o", out / "a.mp4", "--prompt", "sea", "--strength", "2", "--json")
    (detail,) = ran.document["detail"]
    assert (detail["loc"], detail["input"]) == (["body", "video", "strength"], 2)
    assert ran.err == f"Error: {detail['msg']}\n"


def test_a_failure_of_our_own_asks_for_debug_and_debug_shows_it(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize(
    ("clip", "args", "rate"),
    [
        ("clip.mp4", [], "24"),
        ("film.mp4", [], "24000/1001"),
        ("film.mp4", ["--frame-rate", "30"], "30"),
        ("film.mp4", ["--resample-fps", "--target-fps", "12"], "12"),
        ("fast.mp4", [], "60"),
    ],
)
def test_the_output_plays_at_the_sources_rate(clip: str, args: list[str], rate: str, clips: Path) -> None:
    plan = run("plan", clips / clip, "--prompt", "sea", "--json", *args).document
    assert plan["rate"] == rate


def test_a_source_too_fast_to_play_is_resampled_not_slowed_down(clips: Path) -> None:
    plan = run("plan", clips / "fast.mp4", "--prompt", "sea", "--json").document
    assert (plan["shown_frames"], plan["context"]["rate"]) == (24, "60")


def test_the_plan_is_told_for_people(clips: Path) -> None:
    ran = run(
        "plan", clips / "clip.mp4", "--prompt", "sea", "--enable-detail-pass", "--seed", "3", "--new-frames", "96"
    )
    for wanted in ("120 = 24 of the source + 96 new", "24 fps", "pass 2", "3 steps (of 8)", "$0.2000", "4 windows of"):
        assert wanted in ran.out


def test_a_plan_is_made_from_standard_input(clips: Path) -> None:
    request = {"prompt": "sea", "seed": 3, "num_frames": 33, "video": {"video_url": str(clips / "clip.mp4")}}
    plan = run("plan", "--json-input", "-", "--json", given=json.dumps(request)).document
    assert (plan["seed"], plan["shown_frames"], plan["new_frames"]) == (3, 17, 16)


@pytest.fixture(scope="session")
def model_with_sound() -> str:
    """The embedded model of the second family."""
    lacking = [
        *missing(card("ltx2-tiny"), Settings()),
        *(() if adapters(card("ltx2-tiny"), Settings()) else ("loras",)),
    ]
    if lacking:
        pytest.skip(f"the embedded model with sound is not installed: {', '.join(lacking)}")
    torch.set_num_threads(1)
    return "ltx2-tiny"


@pytest.mark.parametrize(("suffix", "content_type"), [(".mp4", "video/mp4"), (".gif", "image/gif")])
def test_picture_and_sound_come_out_as_asked(
    suffix: str, content_type: str, clips: Path, out: Path, model_with_sound: str
) -> None:
    path = out / f"a{suffix}"
    ran = run(
        "extend", clips / "clip.mp4", "-o", path, "--prompt", "a red disc", *V23, "--num-inference-steps", "8",
        "--new-frames", "9", "--video-size", "142x80", "--write-mode", "fast", "--sync-mode", "--json",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    video, plan = ran.document["video"], ran.document["plan"]
    assert (video["width"], video["height"], video["num_frames"]) == (142, 80, 33)
    assert (plan["family"], plan["model"], plan["new_frames"]) == ("ltx2", model_with_sound, 9)
    head, data = video["url"].split(",")
    assert head == f"data:{content_type};base64"
    assert base64.b64decode(data) == path.read_bytes()
    with open_source(path) as file:
        assert (file.facts.sound is not None) == (suffix == ".mp4")


PUBLISHED_23 = ("--endpoint", "2.3", "--model", "ltx-2.3", "--seed", "3")


def test_the_plan_of_picture_and_sound_is_told_for_people(clips: Path) -> None:
    ran = run("plan", clips / "clip.mp4", "--prompt", "sea", *PUBLISHED_23, "--video-size", "1280x720")
    for wanted in (
        "the last 17 of them, at strength 1",
        "their sound, at strength 1",
        "1280x720",
        "120 = 24 of the source + 96 new",
        "the source's own, then made with the picture",
        "X264 (.mp4), quality high, write mode balanced",
        "$0.1685 (105 megapixels)",
        "113 frames: 17 given, 96 new",
        "distill at 0.2, then 0.5",
        "640x384, 15 steps per window, evaluations per step: 4 (prompt, negative, disturbed, isolated)",
        "1280x768, 3 steps per window, evaluations per step: 1 (prompt)",
        "CFG 3, STG 1 (block 28), modality 3, rescaled by 0.85",
        "CFG 7, modality 3, rescaled by 0.7",
        "beta schedule, ancestral renoise, eta 0.25",
    ):
        assert wanted in ran.out, ran.out + ran.err
    assert ran.out.split("evaluations")[-1].strip() == "63"


def test_what_is_off_is_not_told(clips: Path) -> None:
    ran = run(
        "plan", clips / "film.mp4", "--prompt", "sea", *PUBLISHED_23, "--extend-direction", "backward",
        "--new-frames", "900", "--no-use-multiscale", "--no-generate-audio", "--video-stg-scale", "0",
        "--no-use-restart-sampling", "--gradient-estimation-gamma", "2", "--distill-lora-first-pass-scale", "0",
        "--acceleration", "high", "--camera-lora", "dolly_in", "--video-strength", "0",
    )  # fmt: skip
    for wanted in (
        "model sees  none of them",
        "917 = 900 new + 17 of the source, as the model renders them",
        "camera_dolly_in at 1",
        "473 frames: 457 new, 16 given",
        "473 frames: 6 cut off, 443 new, 24 given",
        "gamma 2",
    ):
        assert wanted in ran.out, ran.out + ran.err
    for unwanted in ("STG", "distill", "renoise", "scale 2", "modality", "hears"):
        assert unwanted not in ran.out
    assert "sound     none" in ran.out
    assert ran.out.split("evaluations")[-1].strip() == "28"


@pytest.mark.parametrize(
    ("args", "rate", "frames"),
    [
        ([], "24000/1001", 17),
        (["--no-match-input-fps", "--fps", "29.97"], "30000/1001", 21),
        (["--no-match-input-fps", "--fps", "12"], "12", 9),
    ],
)
def test_picture_and_sound_keep_the_sources_rate_or_the_asked_one(
    args: list[str], rate: str, frames: int, clips: Path
) -> None:
    plan = run("plan", clips / "film.mp4", "--prompt", "sea", *PUBLISHED_23, "--json", *args).document
    assert (plan["rate"], plan["context"]["rate"], plan["shown_frames"]) == (rate, rate, frames)


def test_models_are_listed() -> None:
    listed = {model["name"]: model for model in run("models", "list", "--json").document}
    assert {"ltxv-tiny", "ltxv-13b-0.9.7-dev", "ltxv-13b-0.9.8-distilled"} <= listed.keys()
    assert "ltxv-tiny" in run("models", "list").out


def test_models_check_says_whether_the_files_fit(model: str, clips: Path) -> None:
    ran = run("models", "check", model, "--json")
    assert (ran.status, ran.document["fits"]) == (0, True)
    ran = run("models", "check", clips / "other.safetensors", "--json")
    assert (ran.status, ran.document["fits"]) == (1, False)


def test_the_share_done_only_grows_over_windows_and_passes() -> None:
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
def test_bytes_are_told_in_powers_of_a_thousand(count: int, text: str) -> None:
    assert bytes_text(count) == text


def loaded_after(code: str) -> list[str]:
    script = f"import sys\n{code}\nprint([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
    found: list[str] = json.loads(done.stderr.splitlines()[-1].replace("'", '"'))
    return found


def test_the_command_line_is_imported_without_anything_heavy() -> None:
    assert loaded_after("import longtake.cli") == []


def test_help_is_told_without_anything_heavy() -> None:
    assert loaded_after("from longtake.cli import app\napp(['--help'], standalone_mode=False)") == []


def test_a_plan_is_made_without_torch(clips: Path) -> None:
    args = ["plan", str(clips / "clip.mp4"), "--prompt", "sea"]
    loaded = loaded_after(f"from longtake.cli import app\napp({args!r}, standalone_mode=False)")
    assert not {"torch", "diffusers", "transformers", "av"} & set(loaded)


@pytest.mark.parametrize("args", [["--help"], ["--version"]])
def test_help_and_version_come_at_once(args: list[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", SCRIPT, *args], check=True, capture_output=True, timeout=300)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
