"""A request for video and sound from file to file, on the embedded model."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.endpoints import ltx23
from longtake.endpoints.validation import parse
from longtake.families.ltx2.plan import LTX2Plan
from longtake.media.encode import Encoder
from longtake.media.formats import OutputType, output_format
from longtake.media.sound import FADE_SAMPLES, num_samples
from longtake.media.source import open_source
from longtake.models.choice import named_model
from longtake.models.registry import card, missing
from longtake.planning import Overrides
from longtake.prepare import Fetcher, prepare
from longtake.runner import Result, Runner
from longtake.settings import settings
from tests import raw
from tests.media.clips import number_of, numbered

pytestmark = pytest.mark.usefixtures("forked_decoders")

RATE, FRAMES, WIDTH, HEIGHT = Fraction(24000, 1001), 25, 112, 64
NEW, LONG = 8, 32
"""Numbers of new frames that need one window and two."""

QUICK = {
    "num_inference_steps": 8,
    "num_context_frames": 17,
    "video_cfg_scale": 1,
    "audio_cfg_scale": 1,
    "use_multiscale": False,
    "video_stg_scale": 0,
    "video_modality_scale": 1,
    "audio_modality_scale": 1,
    "distill_lora_first_pass_scale": 0,
    "enable_prompt_expansion": False,
}

FEW, ENOUGH = 4, 8
"""Numbers of steps: too few for a request, for tests that do not look at the quality; and the fewest of a request."""

SILENT = {"generate_audio": False}
"""For tests that look at frames alone: it halves the time."""


def film(path: Path, *, sound: bool, num_frames: int = FRAMES) -> Path:
    """Writes a disc that falls over a plain ground, with a falling tone or without a sound track."""
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    frames = np.empty((num_frames, HEIGHT, WIDTH, 3), np.uint8)
    frames[:] = (40, 80, 220)
    for number in range(num_frames):
        frames[number][(xs - 50) ** 2 + (ys - 12 - number) ** 2 < 10**2] = (220, 40, 40)
    rate = 48_000 if sound else None
    with Encoder(
        path, output_format("PRORES4444 (.mov)", "high", "fast"), WIDTH, HEIGHT, RATE, sound_rate=rate
    ) as video:
        if sound:
            pitch = np.linspace(700, 400, num_samples(num_frames, RATE))
            tone = 0.3 * np.sin(np.cumsum(pitch) * 2 * np.pi / 48_000)
            video.write_sound(np.stack([tone, tone]).astype(np.float32))
        video.write(frames)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("source") / "clip.mov", sound=True)


@pytest.fixture(scope="module")
def runner() -> Runner:
    if missing(card("ltx2-tiny"), settings()):
        pytest.skip("the weights of the embedded model with sound are not in the package")
    return Runner(settings())


@pytest.fixture(scope="module")
def run(runner: Runner, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Result]:
    """Carries out a request for `new` frames, each once, in `steps` steps; `kind` is the type of the output."""
    results: dict[str, Result] = {}

    def carry_out(
        source: Path = clip, kind: OutputType = "PRORES4444 (.mov)", new: int = NEW, steps: int = FEW, **fields: Any
    ) -> Result:
        key = repr((source, kind, new, steps, sorted(fields.items())))
        if key in results:
            return results[key]
        body = {"prompt": "a red circle moving down", "video_url": str(source), "seed": 3}
        request = parse(ltx23.Request, body | QUICK | fields)
        overrides = Overrides(new_frames=new, output=kind, quality="high", write_mode="fast")
        local = Fetcher(allow_local=True)
        model = named_model("ltx2-tiny", settings())
        with prepare(ltx23.ENDPOINT, request, model, settings(), overrides=overrides, fetcher=local) as job:
            out = tmp_path_factory.mktemp("result") / f"out{job.plan.output_format.suffix}"
            assert isinstance(job.plan, LTX2Plan)
            results[key] = runner.run(replace(job, plan=replace(job.plan, steps=steps)), out)
        return results[key]

    return carry_out


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_the_source_is_unchanged_in_the_output(run: Callable[..., Result], clip: Path, direction: str) -> None:
    """Frames differ only by encoding them again; samples are equal except in the cross-fade at the joint."""
    result = run(**({} if direction == "forward" else {"extend_direction": direction}))
    total = FRAMES + NEW
    frames, own = raw.planes(result.path), raw.planes(clip)
    unchanged = frames[:FRAMES] if direction == "forward" else frames[NEW:]
    assert (len(frames), *frames.shape[2:]) == (total, HEIGHT, WIDTH)
    assert np.abs(unchanged - own).mean((0, 2, 3)).max() < 1
    heard, source = raw.sound(result.path), raw.sound(clip)
    assert heard.shape[1] == num_samples(total, RATE)
    length = source.shape[1]
    if direction == "forward":
        same, new = heard[:, : length - FADE_SAMPLES] - source[:, : length - FADE_SAMPLES], heard[:, length:]
    else:
        same, new = heard[:, -(length - FADE_SAMPLES) :] - source[:, FADE_SAMPLES:], heard[:, :-length]
    assert np.abs(same).max() < 1e-4
    assert np.abs(new).max() > 0.01, "the model makes sound"


def test_the_joint_is_not_visible(run: Callable[..., Result]) -> None:
    frames = raw.luma(run().path)
    assert np.abs(frames[FRAMES] - frames[FRAMES - 1]).mean() < 12
    assert np.abs(np.diff(frames[FRAMES:], axis=0)).mean() > 0.05


def test_a_source_without_sound_gets_silence_for_its_own_part(run: Callable[..., Result], tmp_path: Path) -> None:
    result = run(film(tmp_path / "silent.mov", sound=False))
    heard = raw.sound(result.path)
    assert result.has_sound
    assert not heard[:, : num_samples(FRAMES, RATE) - FADE_SAMPLES].any()
    assert np.abs(heard[:, num_samples(FRAMES, RATE) :]).max() > 1e-3


def test_without_generated_sound_silence_follows_the_sources(run: Callable[..., Result], clip: Path) -> None:
    result = run(generate_audio=False)
    heard, length = raw.sound(result.path), num_samples(FRAMES, RATE)
    source = raw.sound(clip)
    assert np.abs(heard[:, : length - FADE_SAMPLES] - source[:, : length - FADE_SAMPLES]).max() < 1e-4
    assert not heard[:, length:].any()


OTHER_SIZE_AND_RATE = {"video_size": {"width": 150, "height": 98}, "match_input_fps": False, "fps": 12}


@pytest.mark.parametrize("kind", ["X264 (.mp4)", "VP9 (.webm)", "GIF (.gif)"])
def test_the_output_has_the_requested_size_rate_and_type(run: Callable[..., Result], kind: OutputType) -> None:
    result = run(kind=kind, **OTHER_SIZE_AND_RATE)
    count, seconds = raw.length(result.path)
    video = result.response("")["video"]
    assert (video["width"], video["height"], video["fps"], video["num_frames"]) == (150, 98, 12.0, count)
    assert video["duration"] == pytest.approx(seconds, abs=0.001)
    with open_source(result.path) as file:
        assert (file.facts.width, file.facts.height) == (150, 98)
        assert (file.facts.sound is None) == (kind == "GIF (.gif)")
        if kind != "GIF (.gif)":
            assert file.facts.rate == 12
            assert file.facts.num_frames == result.plan.num_frames == 13 + NEW


@pytest.mark.parametrize(("kind", "least_db"), [("X264 (.mp4)", 35), ("VP9 (.webm)", 28)])
def test_a_lossy_codec_keeps_the_source_s_sound(
    run: Callable[..., Result], clip: Path, kind: OutputType, least_db: float
) -> None:
    own, heard = raw.sound(clip), raw.sound(run(kind=kind, **OTHER_SIZE_AND_RATE).path)
    unchanged = slice(num_samples(FRAMES, RATE) - FADE_SAMPLES)
    assert raw.loss_db(own[:, unchanged], heard[:, unchanged]) > least_db


def test_below_strength_1_the_models_rendition_is_shown(run: Callable[..., Result], clip: Path) -> None:
    result = run(video_strength=0.5, audio_strength=0.5)
    own, frames = raw.luma(clip), raw.luma(result.path)
    changed = np.abs(frames[:FRAMES] - own).mean((1, 2))
    assert changed[: FRAMES - 17].max() < 1
    assert changed[FRAMES - 17 :].min() > 1
    assert len(frames) == FRAMES + NEW


def counted(path: Path) -> Path:
    """Writes frames that show their numbers."""
    frames = np.stack([numbered(number, WIDTH, HEIGHT) for number in range(FRAMES)])
    with Encoder(path, output_format("PRORES4444 (.mov)", "high", "fast"), WIDTH, HEIGHT, RATE) as video:
        video.write(frames)
    return path


def test_a_resampled_source_keeps_its_frame_at_the_joint(run: Callable[..., Result], tmp_path: Path) -> None:
    source, slow = counted(tmp_path / "counted.mov"), {"match_input_fps": False, "fps": 5, **SILENT}
    forward, backward = (
        raw.luma(run(source, new=8, extend_direction=direction, **slow).path) for direction in ("forward", "backward")
    )
    assert [number_of(frame) for frame in forward[:-8]] == [5, 10, 14, 19, 24]
    assert [number_of(frame) for frame in backward[8:]] == [0, 5, 10, 14, 19]


def pitch(samples: NDArray[np.float64]) -> float:
    """Returns the strongest frequency in Hz of samples [channels, n] at 48 kHz."""
    windowed = samples.mean(0) * np.hanning(samples.shape[1])
    return float(np.abs(np.fft.rfft(windowed, 2**16)).argmax() * 48_000 / 2**16)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_the_strengths_are_for_the_source_and_not_for_later_windows(run: Callable[..., Result], direction: str) -> None:
    """At strength 0 the first window takes nothing from the source. The second still continues the first: neither the
    picture nor the tone jumps where they meet, as at the joint with the source."""
    nothing = {"video_strength": 0, "audio_strength": 0}
    result = run(kind="X264 (.mp4)", new=LONG, steps=ENOUGH, extend_direction=direction, seed=7, **nothing)
    assert isinstance(result.plan, LTX2Plan)
    first, second = result.plan.windows
    joint = FRAMES + first.new_frames if direction == "forward" else second.new_frames
    source = FRAMES - first.context_frames if direction == "forward" else LONG + first.context_frames
    steps = np.abs(np.diff(raw.luma(result.path), axis=0)).mean((1, 2))
    assert steps[joint - 1] < 4 * np.median(steps[joint - 9 : joint + 8])
    assert steps[source - 1] > 3 * steps[joint - 1]
    at, heard = num_samples(joint, RATE), raw.sound(result.path)
    before, after = (pitch(heard[:, start : start + 4800]) for start in (at - 4800, at))
    assert after == pytest.approx(before, rel=0.08)


END = (240, 215, 50)
LUMA_OF_END = 195
"""The luma of this colour by BT.709."""


def test_the_video_ends_with_the_end_image(run: Callable[..., Result], tmp_path: Path) -> None:
    from PIL import Image

    image = Image.new("RGB", (224, 128), END)
    image.save(tmp_path / "end.png")
    image_fields, good = {"end_image_url": str(tmp_path / "end.png")}, {"new": 16, "steps": ENOUGH}
    last = [raw.luma(run(**SILENT, **good, **fields).path)[-1] for fields in ({}, image_fields)]
    plain, ended = (np.abs(frame - LUMA_OF_END).mean() for frame in last)
    assert ended < 0.6 * plain
    off = run(**SILENT, **image_fields, end_image_strength=0)
    assert np.array_equal(raw.luma(off.path), raw.luma(run(**SILENT).path)), "at strength 0 the image has no effect"


@pytest.mark.parametrize("num_frames", [pytest.param(1, marks=pytest.mark.soak), 5])
def test_a_source_that_fills_no_latent_is_extended_backward(
    run: Callable[..., Result], tmp_path: Path, num_frames: int
) -> None:
    """The new frames lead to it, which they do not without a context."""
    short = film(tmp_path / "short.mov", sound=True, num_frames=num_frames)
    result, cut = (
        run(short, extend_direction="backward", num_context_frames=context, generate_audio=context > 0)
        for context in (17, 0)
    )
    smooth, jump = (np.abs(np.diff(raw.luma(made.path), axis=0)).mean((1, 2))[NEW - 1] for made in (result, cut))
    assert result.facts.num_frames == num_frames + NEW
    assert smooth < 0.3 * jump
    heard = raw.sound(result.path)
    assert np.abs(heard[:, : num_samples(NEW, RATE)]).max() > 0.01


def test_the_response_has_the_facts_of_the_file(run: Callable[..., Result]) -> None:
    result = run()
    video = result.response("http://here/x.mov")["video"]
    assert (result.facts.width, result.facts.height, result.facts.num_frames) == (WIDTH, HEIGHT, FRAMES + NEW)
    assert result.facts.rate == RATE
    assert (result.facts.sound is not None) == result.has_sound
    assert (video["url"], video["num_frames"], video["file_name"]) == ("http://here/x.mov", FRAMES + NEW, "out.mov")
    assert video["fps"] == pytest.approx(23.976, abs=1e-3)
    assert video["file_size"] == result.path.stat().st_size


def test_a_context_is_raised_to_whole_latents(run: Callable[..., Result]) -> None:
    """Eight context frames are nine, which show how things move, and not the one that fills a latent before."""
    one, eight, nine = (raw.luma(run(num_context_frames=count, **SILENT).path) for count in (1, 8, 9))
    assert np.array_equal(eight, nine)
    assert np.abs(eight[FRAMES:] - one[FRAMES:]).mean() > 0.1


def test_without_a_context_the_joint_is_a_cut(run: Callable[..., Result], clip: Path) -> None:
    """The source is unchanged, and the new frames take nothing from it."""
    result = run(num_context_frames=0, **SILENT)
    frames, own = raw.luma(result.path), raw.luma(clip)
    assert result.plan.context_frames == 0
    assert len(frames) == FRAMES + NEW
    assert np.abs(frames[:FRAMES] - own).mean() < 1
    joined = raw.luma(run(**SILENT).path)
    cut, smooth = (np.abs(one[FRAMES] - one[FRAMES - 1]).mean() for one in (frames, joined))
    assert cut > 2 * smooth


def test_another_seed_gives_other_frames(run: Callable[..., Result]) -> None:
    first, other = (raw.luma(run(**SILENT, **fields).path) for fields in ({}, {"seed": -(2**63)}))
    assert (first[FRAMES:] != other[FRAMES:]).any()


def test_the_same_request_gives_the_same_frames(run: Callable[..., Result], clip: Path, tmp_path: Path) -> None:
    again = tmp_path / "copy.mov"
    again.write_bytes(clip.read_bytes())
    assert np.array_equal(raw.planes(run(**SILENT).path), raw.planes(run(again, **SILENT).path))
