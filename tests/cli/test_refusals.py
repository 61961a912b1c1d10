"""Errors of the command line: one sentence, an exit status, and no file left behind."""

from pathlib import Path

import pytest

from tests.cli.running import run

pytestmark = pytest.mark.usefixtures("forked_decoders")

V23 = ("--endpoint", "2.3")

REFUSED: dict[str, tuple[list[str], int, str]] = {
    "missing file": (["extend", "{clips}/nowhere.mp4"], 2, "There is no file"),
    "directory": (["extend", "{clips}/folder.mp4"], 2, "is a folder, not a file"),
    "empty file": (["extend", "{clips}/empty.mp4"], 2, "an empty file"),
    "text": (["extend", "{clips}/text.mp4"], 2, "The file is text"),
    "picture": (["extend", "{clips}/still.png"], 2, "a PNG picture"),
    "sound only": (["extend", "{clips}/sound.mp4"], 2, "video"),
    "truncated": (["extend", "{clips}/no_end.mp4"], 2, ""),
    "other address": (["plan", "s3://host/a.mp4"], 2, "is no address that can be read; give a path, an http, https or"),
    "no source": (["extend"], 2, "No source is named"),
    "start beyond the end": (["extend", "{clip}", "--start-frame-num", "48"], 2, "has only 24 frames"),
    "no room": (
        ["extend", "{clip}", *V23, "--num-frames", "17", "--num-context-frames", "17"],
        2,
        "num_context_frames is 17, which takes 17 of num_frames = 17 and leaves no room",
    ),
    "seed": (["extend", "{clip}", "--seed", str(2**64)], 2, "a whole number from -2**63 to 2**64 - 1"),
    "seed beside": (["plan", "{clip}", "--endpoint", "2.3-seconds", "--seed", str(-(2**63) - 1)], 2, "seed is"),
    "several endpoints": (["plan", "{clip}", "--endpoint", "ltx-2.3"], 2, "'ltx-2.3' fits several endpoints: 2.3"),
    "above the range": (["extend", "{clip}", "--strength", "1.5"], 2, "video.strength is 1.5; it must be at most 1"),
    "below the range": (["extend", "{clip}", "--frame-rate", "0"], 2, "frame_rate is 0; it must be at least 1"),
    "not a multiple": (["extend", "{clip}", "--start-frame-num", "3"], 2, "must be a multiple of 8"),
    "not a number": (["extend", "{clip}", "--constant-rate-factor", "nan"], 2, "constant-rate-factor"),
    "not finite": (["extend", "{clip}", "--strength", "nan"], 2, "video.strength is nan"),
    "no choice": (["extend", "{clip}", "--resolution", "1080p"], 2, "resolution"),
    "other endpoint": (
        ["extend", "{clip}", "--endpoint", "097", "--strength", "1"],
        2,
        "strength is not an option of 0.9.7; these endpoints have it: 0.9.8, 0.9.7-dev, 0.9.7-distilled",
    ),
    "no endpoint": (["extend", "{clip}", "--endpoint", "9.9"], 2, "There is no endpoint"),
    "no model": (["extend", "{clip}", "--model", "gpt"], 2, "There is no model named 'gpt'"),
    "no such option": (["extend", "{clip}", "--strenght", "1"], 2, "strenght"),
    "empty prompt": (["extend", "{clip}", "--prompt", ""], 2, "prompt is ''"),
    "broken JSON": (["extend", "{clip}", "--json-input", "{clips}/broken.json"], 2, "is not JSON"),
    "no JSON": (["extend", "{clip}", "--json-input", "{clips}/nothing.json"], 2, "cannot be read"),
    "unknown JSON": (["extend", "{clip}", "--json-input", "{clips}/unknown.json"], 2, "promt is not a field"),
    "no LoRA": (["extend", "{clip}", "--lora", "nothing.safetensors"], 2, "There is no LoRA file"),
    "no LoRA, planned": (["plan", "{clip}", "--lora", "nothing.safetensors"], 2, "--lora: There is no LoRA file"),
    "LoRA of text": (["extend", "{clip}", "--lora", "{clips}/text.safetensors"], 2, "text.safetensors"),
    "LoRA keys": (["extend", "{clip}", "--lora", "{clips}/other.safetensors"], 2, "a model's own weights, not a LoRA"),
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
    "the URL too": (["extend", "file://{clip}", "-o", "{clip}", "--force"], 2, "is the source itself"),
    "read-only": (["extend", "{clip}", "-o", "/proc/self/fd/a.mp4"], 2, "Nothing can be written"),
    "no end image": (
        ["extend", "{clip}", *V23, "--end-image-url", "{clips}/none.png"],
        2,
        "end_image_url: There is no",
    ),
    "end image of text": (["plan", "{clip}", *V23, "--end-image-url", "{clips}/text.mp4"], 2, "not a picture"),
    "no size": (["plan", "{clip}", *V23, "--video-size", "large"], 2, "video_size is 'large'"),
    "size too small": (["plan", "{clip}", *V23, "--video-size", "32x64"], 2, "video_size.width is 32"),
    "too many frames": (
        ["plan", "{clip}", *V23, "--num-frames", "482"],
        2,
        "num_frames is 482; it must be at most 481",
    ),
    "two types": (
        ["extend", "{clip}", *V23, "--video-output-type", "GIF (.gif)"],
        2,
        "the file's suffix asks for 'X264",
    ),
    "other family": (["plan", "{clip}", *V23, "--model", "ltxv-tiny"], 2, "ltxv-tiny cannot do what"),
    "other family's": (["plan", "{clip}", "--model", "ltx2-tiny"], 2, "ltx2-tiny cannot do what"),
    "only 2.3": (["plan", "{clip}", "--num-context-frames", "9"], 2, "num_context_frames is not an option of"),
    "sheet": (["extend", "{clip}", "--inspect", "{out}/sheet.jpg"], 2, "neither a .png file nor a folder"),
    "plan": (["plan", "{clips}/text.mp4"], 2, "The file is text"),
    "pull": (["models", "pull", "ltxv-tiny"], 2, "ships inside the package"),
    "pull unknown": (["models", "pull", "x"], 2, "There is no model named 'x'"),
    "check": (["models", "check", "/nowhere"], 2, "neither a model's name"),
}
"""By name: the arguments, the expected exit status and a part of the message."""


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_one_sentence_and_leaves_no_file(name: str, clips: Path, out: Path) -> None:
    args, status, message = REFUSED[name]
    if name == "read-only" and not Path("/proc/self/fd").is_dir():
        pytest.skip("this system has no /proc, whose folders are read-only")
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
    assert ran.err.splitlines()[-1].startswith("Error: The video is damaged")


def test_a_lora_of_another_model_leaves_no_file(clips: Path, out: Path, model: str) -> None:
    lora = f"{clips / 'misfit.safetensors'},scale=2"
    ran = run("extend", clips / "clip.mp4", "-o", out / "a.mp4", "--prompt", "sea", "--lora", lora)
    assert (ran.status, ran.out, list(out.iterdir())) == (2, "", [])
    last = ran.err.splitlines()[-1]
    assert last.startswith("Error: --lora: The LoRA misfit.safetensors does not fit the model")
