"""The command line as people run it: real files in, real files out, and one sentence for whatever is wrong."""

import base64
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from longtake.cli import app
from longtake.cli.console import Share, bytes_text
from longtake.clip import Progress
from longtake.media.source import open_source
from longtake.models.registry import adapters, card, missing
from longtake.settings import Settings
from tests.media.clips import FASTSTART, X264_SHORT_GOP, Clip, Tone, cut

HEAVY = ("torch", "diffusers", "transformers", "av", "numpy", "pydantic")
SCRIPT = "from longtake.cli import main; main()"
OUTPUT = "out"


@dataclass(frozen=True)
class Ran:
    """A finished command: its exit status and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


def run(*args: str | Path, given: str | None = None) -> Ran:
    """The command in this process."""
    done = CliRunner().invoke(app, [str(arg) for arg in args], input=given)
    return Ran(done.exit_code, done.stdout, done.stderr)


def started(*args: str | Path) -> "subprocess.Popen[str]":
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *(str(arg) for arg in args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of sources, good and bad."""
    folder = tmp_path_factory.mktemp("clips")
    Clip("clip.mp4", options=X264_SHORT_GOP, muxer_options=FASTSTART, sound=Tone()).write(folder)
    Clip("film.mp4", options=X264_SHORT_GOP, rate=Fraction(24000, 1001), frames=17).write(folder)
    Clip("fast.mp4", options=X264_SHORT_GOP, rate=Fraction(120), frames=48).write(folder)
    Clip("sound.mp4", codec=None, sound=Tone()).write(folder)
    Clip("late.mp4", options=X264_SHORT_GOP).write(folder)
    cut(folder / "late.mp4", folder / "no_end.mp4", 0.5)
    data = bytearray((folder / "clip.mp4").read_bytes())
    data[len(data) // 2 : len(data) * 3 // 4] = bytes(len(data) // 4)
    (folder / "hole.mp4").write_bytes(data)
    Image.new("RGB", (64, 48)).save(folder / "still.png")
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("not a video\n" * 20)
    (folder / "folder.mp4").mkdir()
    (folder / "broken.json").write_text("{")
    (folder / "unknown.json").write_text(json.dumps({"prompt": "sea", "promt": "sea"}))
    (folder / "text.safetensors").write_text("no weights here")
    save_file({"diffusion_model.foo.weight": torch.zeros(2, 2)}, folder / "other.safetensors")
    to_q = "transformer.transformer_blocks.0.attn1.to_q"
    wrong = {f"{to_q}.lora_A.weight": torch.zeros(1, 3), f"{to_q}.lora_B.weight": torch.zeros(3, 1)}
    save_file(wrong, folder / "misfit.safetensors")
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / OUTPUT
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def model() -> str:
    """The embedded model's name."""
    lacking = missing(card("ltxv-tiny"), Settings())
    if lacking:
        pytest.skip(f"the embedded model's weights are not installed: {', '.join(lacking)}")
    torch.set_num_threads(1)
    return "ltxv-tiny"


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
        "Reading the prompt",
        "Reading the source",
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
BAD: dict[str, tuple[list[str], int, str]] = {
    "missing file": (["extend", "{clips}/nowhere.mp4"], 2, "There is no file"),
    "directory": (["extend", "{clips}/folder.mp4"], 2, "There is no file"),
    "empty file": (["extend", "{clips}/empty.mp4"], 2, "an empty file"),
    "text": (["extend", "{clips}/text.mp4"], 2, "The file is text"),
    "picture": (["extend", "{clips}/still.png"], 2, "a PNG picture"),
    "sound only": (["extend", "{clips}/sound.mp4"], 2, "video"),
    "truncated": (["extend", "{clips}/no_end.mp4"], 2, ""),
    "no source": (["extend"], 2, "No source is named"),
    "start beyond the end": (["extend", "{clip}", "--start-frame-num", "48"], 2, "has only 24 frames"),
    "no room": (["extend", "{clip}", "--num-frames", "9"], 2, "leaves no room"),
    "above the range": (["extend", "{clip}", "--strength", "1.5"], 2, "video.strength is 1.5; it must be at most 1"),
    "below the range": (["extend", "{clip}", "--frame-rate", "0"], 2, "frame_rate is 0; it must be at least 1"),
    "not a multiple": (["extend", "{clip}", "--start-frame-num", "3"], 2, "must be a multiple of 8"),
    "not a number": (["extend", "{clip}", "--constant-rate-factor", "nan"], 2, "constant-rate-factor"),
    "not finite": (["extend", "{clip}", "--strength", "nan"], 2, "video.strength is nan"),
    "no choice": (["extend", "{clip}", "--resolution", "1080p"], 2, "resolution"),
    "other endpoint": (
        ["extend", "{clip}", "--endpoint", "097", "--strength", "1"],
        2,
        "--strength is not an option of",
    ),
    "no endpoint": (["extend", "{clip}", "--endpoint", "9"], 2, "There is no endpoint"),
    "no model": (["extend", "{clip}", "--model", "gpt"], 2, "There is no model named 'gpt'"),
    "no such option": (["extend", "{clip}", "--strenght", "1"], 2, "strenght"),
    "empty prompt": (["extend", "{clip}", "--prompt", ""], 2, "prompt is ''"),
    "broken JSON": (["extend", "{clip}", "--json-input", "{clips}/broken.json"], 2, "is not JSON"),
    "no JSON": (["extend", "{clip}", "--json-input", "{clips}/nothing.json"], 2, "cannot be read"),
    "unknown JSON": (["extend", "{clip}", "--json-input", "{clips}/unknown.json"], 2, "promt is not a field"),
    "no LoRA": (["extend", "{clip}", "--lora", "nothing.safetensors"], 2, "neither a file"),
    "LoRA of text": (["extend", "{clip}", "--lora", "{clips}/text.safetensors"], 2, "text.safetensors"),
    "LoRA keys": (["extend", "{clip}", "--lora", "{clips}/other.safetensors"], 2, "1 unknown key"),
    "LoRA scale": (["extend", "{clip}", "--lora", "{clips}/other.safetensors,scale=9"], 2, "loras.0.scale"),
    "skips all steps": (
        ["extend", "{clip}", "--enable-detail-pass", "--second-pass-skip-initial-steps", "8"],
        2,
        "less",
    ),
    "both counts": (["extend", "{clip}", "--num-frames", "99", "--new-frames", "9"], 2, "give one of them"),
    "no suffix": (["extend", "{clip}", "-o", "{out}/a"], 2, "no suffix"),
    "unknown suffix": (["extend", "{clip}", "-o", "{out}/a.avi"], 2, ".mp4, .webm, .mov, .gif"),
    "no output folder": (["extend", "{clip}", "-o", "{out}/b/a.mp4"], 2, "There is no folder"),
    "output is a folder": (["extend", "{clip}", "-o", "{clips}/folder.mp4"], 2, "is a folder"),
    "output is the source": (["extend", "{clip}", "-o", "{clip}", "--force"], 2, "is the source itself"),
    "read-only": (["extend", "{clip}", "-o", "/proc/self/fd/a.mp4"], 2, "Nothing can be written"),
    "no end image": (
        ["extend", "{clip}", *V23, "--end-image-url", "{clips}/none.png"],
        2,
        "end_image_url: There is no",
    ),
    "end image of text": (["plan", "{clip}", *V23, "--end-image-url", "{clips}/text.mp4"], 2, "not a picture"),
    "no size": (["plan", "{clip}", *V23, "--video-size", "large"], 2, "--video-size is 'large'"),
    "size too small": (["plan", "{clip}", *V23, "--video-size", "32x64"], 2, "video_size.width is 32"),
    "too many frames": (
        ["plan", "{clip}", *V23, "--num-frames", "482"],
        2,
        "num_frames is 482; it must be at most 481",
    ),
    "two types": (["extend", "{clip}", *V23, "--video-output-type", "GIF (.gif)"], 2, "OUT's suffix asks for 'X264"),
    "other family": (["plan", "{clip}", *V23, "--model", "ltxv-tiny"], 2, "ltxv-tiny cannot do what"),
    "other family's": (["plan", "{clip}", "--model", "ltx2-tiny"], 2, "ltx2-tiny cannot do what"),
    "only 2.3": (["plan", "{clip}", "--num-context-frames", "9"], 2, "--num-context-frames is not an option of"),
    "sheet": (["extend", "{clip}", "--inspect", "{out}/sheet.jpg"], 2, "neither a .png file nor a folder"),
    "plan": (["plan", "{clips}/text.mp4"], 2, "The file is text"),
    "pull": (["models", "pull", "ltxv-tiny"], 2, "ships inside the package"),
    "pull unknown": (["models", "pull", "x"], 2, "There is no model named 'x'"),
    "check": (["models", "check", "/nowhere"], 3, "neither a model's name"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_done_is_one_sentence_and_no_file(name: str, clips: Path, out: Path) -> None:
    args, status, message = BAD[name]
    if name == "read-only" and not Path("/proc/self/fd").is_dir():
        pytest.skip("there is no /proc here, the folder that nobody can write to")
    words = [arg.format(clips=clips, clip=clips / "clip.mp4", out=out) for arg in args]
    if words[0] in ("extend", "plan") and "--prompt" not in words:
        words += ["--prompt", "sea"]
    if words[0] == "extend" and "-o" not in words:
        words += ["-o", str(out / "a.mp4")]
    before = sorted(clips.iterdir())
    ran = run(*words)
    assert (ran.status, ran.out) == (status, "")
    assert message in " ".join(ran.err.replace("│", " ").split())
    assert ran.err.count("Error") == 1
    assert "Traceback" not in ran.err
    assert (list(out.iterdir()), sorted(clips.iterdir())) == ([], before)


def test_a_source_that_breaks_off_leaves_no_file(clips: Path, out: Path, model: str) -> None:
    ran = run("extend", clips / "hole.mp4", "-o", out / "a.mp4", "--prompt", "sea", "--new-frames", "8")
    assert (ran.status, ran.out, list(out.iterdir())) == (2, "", [])
    assert ran.err.splitlines()[-1].startswith("Error: The video breaks off")


def test_a_lora_of_another_model_leaves_no_file(clips: Path, out: Path, model: str) -> None:
    lora = f"{clips / 'misfit.safetensors'},scale=2"
    ran = run("extend", clips / "clip.mp4", "-o", out / "a.mp4", "--prompt", "sea", "--lora", lora)
    assert (ran.status, ran.out, list(out.iterdir())) == (2, "", [])
    last = ran.err.splitlines()[-1]
    assert last.startswith("Error: The LoRA misfit.safetensors does not fit the model")


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
        "145 = 24 of the source + 121 new",
        "the source's own, then made with the picture",
        "X264 (.mp4), quality high, write mode balanced",
        "$0.1798",
        "145 frames: 17 given, 121 new, 7 cut off",
        "640x384, 15 steps per window, evaluations per step: 4 (prompt, negative, disturbed, isolated), distill",
        "1280x768, 3 steps per window, evaluations per step: 1 (prompt), distill adapter at 0.5",
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
        "none of them (strength 0)",
        "917 = 900 new + 17 of the source, as the model renders them",
        "dolly_in, at 1",
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
    share = Share(passes=2)
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
