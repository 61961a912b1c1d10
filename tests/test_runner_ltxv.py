"""The whole way of a request in one process, on the embedded model: files in, files out."""

import base64
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import BaseModel

from longtake.endpoints import Endpoint, ltxv097, ltxv098
from longtake.endpoints.validation import parse
from longtake.errors import Cancelled, DownloadFailed, InvalidRequest, UnsupportedVideo
from longtake.media.encode import Encoder
from longtake.media.formats import OutputType, output_format
from longtake.media.source import open_source
from longtake.models.registry import card, missing
from longtake.prepare import Fetcher, Job, Overrides, prepare
from longtake.runner import Result, Runner
from longtake.settings import Settings, settings
from longtake.video import Progress, Span

RATE = Fraction(24000, 1001)
FRAMES, SIDE = 33, 480
PROMPT = "a red circle moving right over a plain blue background"
NO_OVERRIDES = Overrides()


def footage() -> NDArray[np.uint8]:
    """A red disc that crosses a blue ground, at the output's own size."""
    ys, xs = np.mgrid[:SIDE, :SIDE]
    frames = np.empty((FRAMES, SIDE, SIDE, 3), np.uint8)
    frames[:] = (40, 80, 220)
    for number in range(FRAMES):
        frames[number][(xs - 120 - 6 * number) ** 2 + (ys - 240) ** 2 < 70**2] = (220, 40, 40)
    return frames


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The footage as a file with a steady tone."""
    path = tmp_path_factory.mktemp("take") / "clip.mp4"
    with Encoder(path, output_format("X264 (.mp4)", "high", "fast"), SIDE, SIDE, RATE) as video:
        tone = 0.3 * np.sin(np.arange(round(FRAMES * 48_000 / RATE)) * 2 * np.pi * 440 / 48_000)
        video.write_sound(np.stack([tone, tone]).astype(np.float32))
        video.write(footage())
    return path


@pytest.fixture(scope="module")
def runner() -> Runner:
    if missing(card("ltxv-tiny"), settings()):
        pytest.skip("the embedded model's weights are not in the package")
    return Runner(settings())


@pytest.fixture
def run(runner: Runner, clip: Path, tmp_path: Path) -> Callable[..., tuple[Result, NDArray[np.uint8]]]:
    """Carries a request for the clip out; gives the result and all frames of the file."""

    def carry_out(
        module: Any = ltxv098, new_frames: int | None = 24, kind: OutputType = "X264 (.mp4)", **fields: Any
    ) -> tuple[Result, NDArray[np.uint8]]:
        listen = fields.pop("on_progress", lambda progress: None)
        video = {"video_url": str(clip)} | fields.pop("video", {})
        request = parse(module.Request, {"prompt": PROMPT, "resolution": "480p", "seed": 3, **fields, "video": video})
        own_rate = new_frames is not None and "frame_rate" not in fields
        overrides = Overrides(
            new_frames=new_frames, own_rate=own_rate, output=kind, quality="maximum", write_mode="fast"
        )
        with ready(request, module.ENDPOINT, overrides=overrides) as job:
            result = runner.run(job, tmp_path / f"out{job.plan.output_format.suffix}", on_progress=listen)
        return result, decoded(result.path)

    return carry_out


def ready(
    request: BaseModel,
    endpoint: Endpoint[Any, Any] = ltxv098.ENDPOINT,
    here: Settings | None = None,
    *,
    overrides: Overrides = NO_OVERRIDES,
    local: bool = True,
) -> AbstractContextManager[Job]:
    """A request of the embedded model's, made ready."""
    fetcher = Fetcher(allow_local=local)
    return prepare(endpoint, request, card("ltxv-tiny"), here or settings(), overrides=overrides, fetcher=fetcher)


def decoded(path: Path) -> NDArray[np.uint8]:
    with open_source(path) as file:
        facts = file.facts
        return np.concatenate(list(file.frames(Span(0, facts.num_frames, facts.rate))))


def written(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[Any]]:
    """Everything that the encoder is given from now on; it encodes it all the same."""
    seen: list[NDArray[Any]] = []
    own = Encoder.write

    def write(self: Encoder, frames: Any) -> None:
        seen.append(frames.copy())
        own(self, frames)

    monkeypatch.setattr(Encoder, "write", write)
    return seen


def test_your_frames_are_yours(run: Any, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rate, count and sound are the source's, and its pixels reach the encoder bit for bit."""
    source = decoded(clip)
    seen = written(monkeypatch)
    result, frames = run()
    assert (result.plan.source_frames, len(frames)) == (FRAMES, FRAMES + 24)
    assert (np.concatenate(seen)[:FRAMES] == source).all()
    with open_source(result.path) as file, open_source(clip) as before:
        assert file.facts.rate == RATE
        assert file.facts.sound is not None
        stop = Fraction(FRAMES - 1) / RATE
        own, kept = (reader.sound(Fraction(0), stop) for reader in (before, file))
        assert own is not None
        assert kept is not None
        assert np.abs(own - kept).max() < 0.05
        after = file.sound(Fraction(FRAMES + 1) / RATE, Fraction(FRAMES + 20) / RATE)
        assert after is not None
        assert np.abs(after).max() < 0.01, "these models make no sound"


def test_new_frames_are_made_and_move(run: Any) -> None:
    _, frames = run()
    new = frames[FRAMES:].astype(int)
    assert np.abs(np.diff(new, axis=0)).mean() > 0.05
    assert np.abs(new[0] - frames[FRAMES - 1].astype(int)).mean() < 12, "no cut at the joint"


def test_the_endpoint_counts_all_frames(run: Any) -> None:
    result, frames = run(new_frames=None, num_frames=49)
    assert (len(frames), result.plan.shown_frames, result.plan.new_frames) == (49, 33, 16)


def test_a_source_without_room_is_shown_whole(run: Any, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = written(monkeypatch)
    result, frames = run(new_frames=None, num_frames=33)
    assert (result.plan.shown_frames, result.plan.context_frames, result.plan.new_frames) == (FRAMES, 9, 24)
    assert len(frames) == FRAMES + 24
    assert (np.concatenate(seen)[:FRAMES] == decoded(clip)).all()
    assert any("all are shown" in note for note in result.notes)


def test_097_goes_the_same_way(run: Any) -> None:
    result, frames = run(ltxv097, new_frames=16, aspect_ratio="9:16", num_inference_steps=4)
    assert frames.shape == (FRAMES + 16, 832, 480, 3)
    assert result.plan.price_usd == Fraction("0.12")


def test_reversed_output_is_the_video_backwards(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = written(monkeypatch)
    run()
    forwards, count = np.concatenate(seen), len(seen)
    run(reverse_video=True)
    assert np.array_equal(np.concatenate(seen[count:]), forwards[::-1])


def test_footage_backwards_begins_at_its_end(run: Any, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = written(monkeypatch)
    run(video={"reverse_video": True})
    assert (np.concatenate(seen)[:FRAMES] == decoded(clip)[::-1]).all()


def test_with_less_strength_the_context_is_the_models(run: Any, monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    seen = written(monkeypatch)
    result, frames = run(video={"strength": 0.7})
    kept = result.plan.source_frames
    assert kept == FRAMES - result.plan.context_frames
    pixels = np.concatenate(seen)
    assert (pixels[:kept] == decoded(clip)[:kept]).all()
    assert (pixels[kept:FRAMES] != decoded(clip)[kept:]).any()
    assert len(frames) == FRAMES + 24


def test_another_rate_stretches_picture_and_sound_alike(run: Any) -> None:
    result, _ = run(frame_rate=12)
    with open_source(result.path) as file:
        assert file.facts.rate == 12
        assert file.facts.num_frames == FRAMES + 24
        sounding = file.sound(Fraction(0), Fraction(FRAMES, 12))
        assert sounding is not None
        halves = np.abs(sounding[0]).reshape(2, -1).mean(1)
        assert halves.min() > 0.1, "the tone lasts as long as its picture"


def test_a_guide_is_not_shown(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = written(monkeypatch)
    result, frames = run(new_frames=None, num_frames=25, video={"conditioning_type": "canny", "preprocess": True})
    assert len(frames) == len(np.concatenate(seen)) == 25
    assert not result.has_sound


@pytest.mark.parametrize(
    ("kind", "suffix"), [("VP9 (.webm)", ".webm"), ("PRORES4444 (.mov)", ".mov"), ("GIF (.gif)", ".gif")]
)
def test_every_output_type(run: Any, kind: OutputType, suffix: str) -> None:
    result, frames = run(new_frames=8, kind=kind)
    assert result.path.suffix == suffix
    assert len(frames) == FRAMES + 8
    assert result.has_sound == (suffix != ".gif")


def test_a_data_uri_is_a_source(clip: Path) -> None:
    uri = "data:video/mp4;base64," + base64.b64encode(clip.read_bytes()).decode()
    request = parse(ltxv098.Request, {"prompt": PROMPT, "video": {"video_url": uri}})
    with ready(request, local=False) as job:
        assert job.source.facts.num_frames == FRAMES
        assert job.plan.seed >= 0


@pytest.mark.parametrize("stage", ["context", "sampling", "frames"])
def test_cancelled_leaves_nothing(run: Any, tmp_path: Path, stage: str) -> None:
    def on_progress(progress: Progress) -> None:
        if progress.stage == stage:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(on_progress=on_progress)
    assert not list(tmp_path.iterdir())


def sources(folder: Path) -> Iterator[tuple[str, type[InvalidRequest]]]:
    (folder / "text.mp4").write_text("not a video")
    yield str(folder / "text.mp4"), UnsupportedVideo
    yield str(folder / "nowhere.mp4"), InvalidRequest
    yield "ftp://example.org/a.mp4", InvalidRequest
    yield "http://127.0.0.1:9/closed.mp4", DownloadFailed
    yield "data:video/mp4;base64,AAAA", UnsupportedVideo


def test_bad_sources_name_the_field(tmp_path: Path) -> None:
    for url, error in sources(tmp_path):
        request = parse(ltxv098.Request, {"prompt": PROMPT, "video": {"video_url": url}})
        with pytest.raises(error) as raised, ready(request):
            pass
        assert raised.value.loc == ("body", "video", "video_url")
        assert raised.value.message.endswith(".")


def test_a_path_is_no_url_to_strangers(clip: Path) -> None:
    request = parse(ltxv098.Request, {"prompt": PROMPT, "video": {"video_url": str(clip)}})
    with pytest.raises(InvalidRequest), ready(request, local=False):
        pass


def test_the_detail_pass_needs_an_upsampler(clip: Path, tmp_path: Path) -> None:
    import shutil

    from longtake.models.registry import WEIGHTS

    for part in ("transformer", "vae", "text_encoder", "tokenizer"):
        shutil.copytree(WEIGHTS / "ltxv-tiny" / part, tmp_path / "model" / part)
    bare = settings(model_sources={"ltxv-tiny": str(tmp_path / "model")})
    request = parse(ltxv098.Request, {"prompt": PROMPT, "enable_detail_pass": True, "video": {"video_url": str(clip)}})
    with (
        pytest.raises(InvalidRequest, match="enable_detail_pass needs a latent upsampler") as error,
        ready(request, here=bare, overrides=Overrides(new_frames=24)),
    ):
        pass
    assert error.value.loc == ("body", "enable_detail_pass")
