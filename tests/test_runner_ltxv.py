"""A request for video from file to file, on the embedded model."""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import BaseModel

from longtake.endpoints import Endpoint, ltxv097, ltxv098
from longtake.endpoints.validation import parse
from longtake.errors import Cancelled, DownloadFailed, InvalidRequest, UnsupportedVideo
from longtake.media.crf import compress
from longtake.media.encode import Encoder
from longtake.media.formats import OutputType, output_format
from longtake.media.gif import GifWriter
from longtake.media.movie import MovieWriter
from longtake.media.source import open_source
from longtake.models.choice import named_model
from longtake.models.registry import card, missing
from longtake.output.context_compression import ContextCompression
from longtake.planning import Overrides
from longtake.plans import Plan
from longtake.prepare import Fetcher, Job, prepare
from longtake.runner import Result, Runner
from longtake.safety import SafetyChecker
from longtake.sampling.preview import Preview
from longtake.settings import Settings, settings
from longtake.video import Progress, Span
from tests import raw
from tests.media.clips import number_of, numbered

pytestmark = pytest.mark.usefixtures("forked_decoders")

RATE = Fraction(24000, 1001)
FRAMES, SIDE = 17, 480
NEW = 8
PROMPT = "a red circle moving right over a plain blue background"
NO_OVERRIDES = Overrides()


def film() -> NDArray[np.uint8]:
    """A red disc that crosses a blue ground, [17, 480, 480, 3] as the output."""
    ys, xs = np.mgrid[:SIDE, :SIDE]
    frames = np.empty((FRAMES, SIDE, SIDE, 3), np.uint8)
    frames[:] = (40, 80, 220)
    for number in range(FRAMES):
        frames[number][(xs - 150 - 10 * number) ** 2 + (ys - 240) ** 2 < 70**2] = (220, 40, 40)
    return frames


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The film as a file with a steady tone."""
    path = tmp_path_factory.mktemp("source") / "clip.mp4"
    with Encoder(path, output_format("X264 (.mp4)", "high", "fast"), SIDE, SIDE, RATE) as video:
        tone = 0.3 * np.sin(np.arange(round(FRAMES * 48_000 / RATE)) * 2 * np.pi * 440 / 48_000)
        video.write_sound(np.stack([tone, tone]).astype(np.float32))
        video.write(film())
    return path


@pytest.fixture(scope="module")
def source(clip: Path) -> NDArray[np.uint8]:
    """The clip's planes [17, 720, 480] at the output's size."""
    with open_source(clip) as file:
        return np.concatenate(list(file.frames(Span(0, FRAMES, RATE), (480, 480), pixel_format="yuv420p")))


@pytest.fixture(scope="module")
def runner() -> Runner:
    if missing(card("ltxv-tiny"), settings()):
        pytest.skip("the embedded model's weights are not in the package")
    return Runner(settings())


@dataclass(frozen=True)
class Output:
    """A finished request: its result, and the planes that were encoded."""

    result: Result
    written: NDArray[Any]

    @property
    def frames(self) -> NDArray[np.float64]:
        """The luma of the file's frames, [t, H, W]."""
        return raw.luma(self.result.path)


Run = Callable[..., Output]


@pytest.fixture(scope="module")
def run(runner: Runner, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Carries out a request for the clip, each request once."""
    outputs: dict[str, Output] = {}

    def carry_out(
        module: Any = ltxv098, new_frames: int | None = NEW, kind: OutputType = "X264 (.mp4)", **fields: Any
    ) -> Output:
        key = repr((module, new_frames, kind, sorted(fields.items())))
        if key not in outputs:
            with (
                recorded_writes() as written,
                ready(
                    request(clip, module, **fields), module.ENDPOINT, overrides=overridden(new_frames, kind, fields)
                ) as job,
            ):
                out = tmp_path_factory.mktemp("result") / f"out{job.plan.output_format.suffix}"
                result = runner.run(job, out)
            outputs[key] = Output(result, np.stack(written))
        return outputs[key]

    return carry_out


def request(clip: Path, module: Any = ltxv098, **fields: Any) -> BaseModel:
    """A quick request to continue the clip."""
    video = {"video_url": str(clip)} | fields.pop("video", {})
    quick = {"first_pass_num_inference_steps": 2} if module is ltxv098 else {}
    body = {"prompt": PROMPT, "resolution": "480p", "seed": 3, **quick, **fields, "video": video}
    parsed: BaseModel = parse(module.Request, body)
    return parsed


def overridden(new_frames: int | None, kind: OutputType, fields: Mapping[str, Any]) -> Overrides:
    own_rate = new_frames is not None and "frame_rate" not in fields
    return Overrides(new_frames=new_frames, own_rate=own_rate, output=kind, quality="maximum", write_mode="fast")


@contextmanager
def recorded_writes() -> Iterator[list[NDArray[Any]]]:
    """In the block, records each frame that is encoded, in the file's own format."""
    written: list[NDArray[Any]] = []

    def recording(own: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        def add_frame(self: Any, planes: Any) -> None:
            written.append(planes.copy())
            own(self, planes)

        return add_frame

    with pytest.MonkeyPatch.context() as patch:
        for writer in (MovieWriter, GifWriter):
            patch.setattr(writer, "add_frame", recording(writer.add_frame))
        yield written


def ready(
    parsed: BaseModel,
    endpoint: Endpoint[Any, Any] = ltxv098.ENDPOINT,
    here: Settings | None = None,
    *,
    overrides: Overrides = NO_OVERRIDES,
    local: bool = True,
) -> AbstractContextManager[Job]:
    """Prepares a request for the embedded model."""
    fetcher = Fetcher(allow_local=local)
    return prepare(
        endpoint, parsed, named_model("ltxv-tiny", settings()), here or settings(), overrides=overrides, fetcher=fetcher
    )


def test_source_frames_reach_the_encoder_unchanged(run: Run, source: NDArray[np.uint8]) -> None:
    output = run()
    assert (output.result.plan.source_frames, len(output.frames)) == (FRAMES, FRAMES + NEW)
    assert (output.written[:FRAMES] == source).all()


def test_rate_and_sound_are_the_sources(run: Run, clip: Path) -> None:
    with open_source(run().result.path) as file, open_source(clip) as before:
        assert file.facts.rate == RATE
        assert file.facts.sound is not None
        stop = Fraction(FRAMES - 1) / RATE
        wanted, sound = (reader.sound(Fraction(0), stop) for reader in (before, file))
        assert wanted is not None
        assert sound is not None
        assert np.abs(wanted - sound).max() < 0.05
        after = file.sound(Fraction(FRAMES + 1) / RATE, Fraction(FRAMES + NEW - 1) / RATE)
        assert after is not None
        assert np.abs(after).max() < 0.01, "these models generate no sound"


def test_new_frames_move_and_the_joint_is_not_visible(run: Run) -> None:
    frames = run().frames
    assert np.abs(np.diff(frames[FRAMES:], axis=0)).mean() > 0.05
    assert np.abs(frames[FRAMES] - frames[FRAMES - 1]).mean() < 12


def test_num_frames_counts_all_frames(run: Run) -> None:
    output = run(new_frames=None, num_frames=33)
    plan = output.result.plan
    assert (len(output.frames), plan.shown_frames, plan.new_frames) == (33, FRAMES, 16)


def test_a_source_without_room_is_shown_whole(run: Run, source: NDArray[np.uint8]) -> None:
    output = run(new_frames=None, num_frames=17)
    plan = output.result.plan
    assert (plan.shown_frames, plan.context_frames, plan.new_frames) == (FRAMES, 1, 16)
    assert len(output.frames) == FRAMES + 16
    assert (output.written[:FRAMES] == source).all()
    assert any("all are shown" in note for note in output.result.notes)


def test_097_is_carried_out_too(run: Run) -> None:
    output = run(ltxv097, aspect_ratio="9:16", num_inference_steps=2)
    assert output.frames.shape == (FRAMES + NEW, 832, 480)
    assert output.result.plan.price_usd == Fraction("0.12")


def test_reversed_output_is_the_video_backwards(run: Run) -> None:
    assert np.array_equal(run(reverse_video=True).written, run().written[::-1])


def test_a_reversed_source_begins_at_its_end(run: Run, source: NDArray[np.uint8]) -> None:
    assert (run(video={"reverse_video": True}).written[:FRAMES] == source[::-1]).all()


@pytest.mark.parametrize("in_advance", [True, False])
def test_the_context_is_compressed_once_while_it_is_read(
    run: Run, runner: Runner, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_advance: bool
) -> None:
    """The video is the same if it is compressed later."""
    later: list[int] = []

    def noted(frames: NDArray[np.uint8], crf: int) -> NDArray[np.uint8]:
        later.append(crf)
        return compress(frames, crf)

    def idle(plan: Plan) -> ContextCompression:
        return ContextCompression(replace(plan, context_frames=0))

    monkeypatch.setattr("longtake.families.ltxv.generate.compress", noted)
    if not in_advance:
        monkeypatch.setattr("longtake.runner.ContextCompression", idle)
    with ready(request(clip), overrides=overridden(NEW, "X264 (.mp4)", {})) as job:
        result = runner.run(job, tmp_path / "out.mp4")
    assert len(later) == (0 if in_advance else 1)
    assert result.path.read_bytes() == run().result.path.read_bytes()


def test_below_strength_1_the_context_is_the_models_rendition(run: Run, source: NDArray[np.uint8]) -> None:
    output = run(new_frames=None, num_frames=17, video={"strength": 0.7})
    unchanged = output.result.plan.source_frames
    assert unchanged == FRAMES - output.result.plan.context_frames == 16
    assert (output.written[:unchanged] == source[:unchanged]).all()
    assert (output.written[unchanged:FRAMES] != source[unchanged:]).any()
    assert len(output.frames) == FRAMES + 16


def test_another_rate_stretches_picture_and_sound_alike(run: Run) -> None:
    with open_source(run(frame_rate=12).result.path) as file:
        assert file.facts.rate == 12
        assert file.facts.num_frames == FRAMES + NEW
        sound = file.sound(Fraction(0), Fraction(FRAMES - 1, 12))
        assert sound is not None
        halves = np.abs(sound[0]).reshape(2, -1).mean(1)
        assert halves.min() > 0.1, "the tone lasts as long as its picture"


@pytest.mark.parametrize(("reverse", "shown"), [(False, [8, 16]), (True, [8, 0])])
def test_a_resampled_source_keeps_its_frame_at_the_joint(
    runner: Runner, tmp_path: Path, reverse: bool, shown: list[int]
) -> None:
    frames = np.stack([numbered(number, 128, 128) for number in range(FRAMES)])
    with Encoder(tmp_path / "counted.mp4", output_format("X264 (.mp4)", "high", "fast"), 128, 128, RATE) as video:
        video.write(frames)
    video_fields = {"resample_fps": True, "target_fps": 3, "reverse_video": reverse}
    parsed = request(tmp_path / "counted.mp4", aspect_ratio="1:1", video=video_fields)
    with ready(parsed, overrides=Overrides(new_frames=NEW)) as job:
        result = runner.run(job, tmp_path / "out.mp4")
    assert [number_of(frame) for frame in raw.luma(result.path)[:-NEW]] == shown


def test_the_tone_map_sets_in_without_a_step(run: Run) -> None:
    """The contrast of new frames falls from that of the joint, within the first second. Only the first window's frames
    are compared: the next one continues other frames, and shows other things."""
    fields: dict[str, Any] = {"new_frames": 32, "aspect_ratio": "1:1"}
    plain, mapped = (
        run(tone_map_compression_ratio=ratio, **fields).frames[FRAMES:][:24].std((1, 2)) for ratio in (0, 1)
    )
    share = mapped / plain
    assert abs(share[0] - 1) < 0.04
    assert np.abs(np.diff(share)).max() < 0.06
    assert share[18:].mean() < 0.95


def test_a_guide_is_not_shown(run: Run) -> None:
    output = run(new_frames=None, num_frames=17, video={"conditioning_type": "canny", "preprocess": True})
    assert len(output.frames) == len(output.written) == 17
    assert not output.result.has_sound


@pytest.mark.parametrize(
    ("kind", "suffix"), [("VP9 (.webm)", ".webm"), ("PRORES4444 (.mov)", ".mov"), ("GIF (.gif)", ".gif")]
)
def test_every_output_type(run: Run, kind: OutputType, suffix: str) -> None:
    output = run(kind=kind)
    assert output.result.path.suffix == suffix
    assert len(output.frames) == FRAMES + NEW
    assert output.result.has_sound == (suffix != ".gif")
    with av.open(str(output.result.path)) as file:
        tags = {name.lower(): text for name, text in file.metadata.items()}
    made = json.loads(tags["comment"])
    assert made["endpoint"] == ltxv098.ENDPOINT.id
    assert made["input"]["seed"] == output.result.plan.seed
    assert "video_url" not in made["input"]["video"]


def test_a_data_uri_is_a_source(clip: Path) -> None:
    uri = "data:video/mp4;base64," + base64.b64encode(clip.read_bytes()).decode()
    body = {"prompt": PROMPT, "video": {"video_url": uri}}
    with ready(parse(ltxv098.Request, body), local=False) as job:
        assert job.source.facts.num_frames == FRAMES
        assert job.plan.seed >= 0


@pytest.mark.parametrize("stage", ["context", "sampling", "frames"])
def test_a_cancelled_request_leaves_no_file(runner: Runner, clip: Path, tmp_path: Path, stage: str) -> None:
    def on_progress(progress: Progress) -> None:
        if progress.stage == stage:
            raise Cancelled

    with ready(request(clip), overrides=Overrides(new_frames=NEW)) as job, pytest.raises(Cancelled):
        runner.run(job, tmp_path / "out.mp4", on_progress=on_progress)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("is_checked", [False, True])
def test_frames_that_are_checked_have_no_preview(
    runner: Runner, clip: Path, tmp_path: Path, is_checked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []

    class Curious:
        def is_due(self) -> bool:
            steps.append(len(steps))
            return False

        def show(self, preview: Preview, cost_s: float) -> None:
            raise AssertionError("no preview was due")

    def on_progress(progress: Progress) -> None:
        if progress.stage == "sampling" and progress.step == 1:
            raise Cancelled

    checker = SafetyChecker(lambda image: []) if is_checked else None
    monkeypatch.setattr("longtake.runner.configured_checker", lambda settings: (checker, None))
    with ready(request(clip), overrides=Overrides(new_frames=NEW)) as job, pytest.raises(Cancelled):
        runner.run(job, tmp_path / "out.mp4", on_progress=on_progress, previews=Curious())
    assert bool(steps) != is_checked


def sources(folder: Path) -> Iterator[tuple[str, type[InvalidRequest]]]:
    (folder / "text.mp4").write_text("not a video")
    yield str(folder / "text.mp4"), UnsupportedVideo
    yield str(folder / "nowhere.mp4"), InvalidRequest
    yield "ftp://example.org/a.mp4", InvalidRequest
    yield "http://127.0.0.1:9/closed.mp4", DownloadFailed
    yield "data:video/mp4;base64,AAAA", UnsupportedVideo


def test_bad_sources_name_the_field(tmp_path: Path) -> None:
    for url, error in sources(tmp_path):
        body = {"prompt": PROMPT, "video": {"video_url": url}}
        with pytest.raises(error) as raised, ready(parse(ltxv098.Request, body)):
            pass
        assert raised.value.loc == ("body", "video", "video_url")
        assert raised.value.message.endswith(".")


def test_a_local_path_is_refused_unless_allowed(clip: Path) -> None:
    with pytest.raises(InvalidRequest), ready(request(clip), local=False):
        pass


def test_the_detail_pass_needs_an_upsampler(clip: Path, tmp_path: Path) -> None:
    import shutil

    from longtake.models.registry import WEIGHTS

    for part in ("transformer", "vae", "text_encoder", "tokenizer"):
        shutil.copytree(WEIGHTS / "ltxv-tiny" / part, tmp_path / "model" / part)
    bare = settings(model_sources={"ltxv-tiny": str(tmp_path / "model")})
    with (
        pytest.raises(InvalidRequest, match="enable_detail_pass needs a latent upsampler") as error,
        ready(request(clip, enable_detail_pass=True), here=bare, overrides=Overrides(new_frames=NEW)),
    ):
        pass
    assert error.value.loc == ("body", "enable_detail_pass")
