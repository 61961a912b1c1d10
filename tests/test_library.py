"""The Python API: defaults, parameters, errors and cancelling; and the snippets of docs/library.md."""

import re
import shutil
from pathlib import Path
from typing import Any

import av
import pytest

import longtake
from longtake import library
from longtake.endpoints import ENDPOINTS
from longtake.errors import InvalidRequest, LongtakeError, NotSupported
from longtake.models.registry import CARDS
from longtake.video import Progress
from tests.media.clips import Clip

pytestmark = pytest.mark.usefixtures("forked_decoders")

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "examples" / "clip.mp4"
SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "library.md").read_text(), re.S)
QUICK: dict[str, Any] = {
    "prompt": "a red circle",
    "resolution": "480p",
    "aspect_ratio": "1:1",
    "first_pass_num_inference_steps": 2,
    "write_mode": "fast",
    "seed": 1,
}


FRAMES = 9


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source of FRAMES small frames, for requests that are carried out."""
    return Clip("clip.mp4", frames=FRAMES, size=(64, 64)).write(tmp_path_factory.mktemp("source"))


def count(path: Path) -> int:
    with av.open(str(path)) as file:
        return sum(1 for _ in file.decode(video=0))


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_of_the_page_runs(number: int, short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copyfile(short, tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    exec(compile(SNIPPETS[number], f"snippet {number}", "exec"), {})
    assert all(count(path) > FRAMES for path in tmp_path.glob("longer*.mp4"))


def test_the_page_has_five_snippets() -> None:
    assert len(SNIPPETS) == 5


def test_by_default_the_whole_source_is_kept_and_96_frames_are_added(short: Path, tmp_path: Path) -> None:
    result = longtake.extend(str(short), tmp_path / "out.mp4", **QUICK)
    assert (result.plan.endpoint, result.plan.model) == ("fal-ai/ltxv-13b-098-distilled/extend", "ltxv-tiny")
    assert count(result.path) == result.facts.num_frames == FRAMES + 96
    assert result.plan.rate == 24
    assert result.response("file:///out.mp4")["video"]["num_frames"] == FRAMES + 96


@pytest.mark.parametrize("name", [one.name for one in ENDPOINTS.values()])
def test_plan_needs_no_model_and_adds_96_frames_on_every_endpoint(name: str) -> None:
    plan = longtake.plan(CLIP, prompt="x", endpoint=name, lora="owner/x")
    assert (plan.new_frames, plan.shown_frames) == (96, 33)


def test_num_frames_counts_as_the_api_does() -> None:
    assert longtake.plan(CLIP, prompt="x", num_frames=121).num_frames == 121
    plan = longtake.plan(CLIP, prompt="x", endpoint="2.3", num_frames=121)
    assert (plan.new_frames, plan.billed_frames) == (96, 121)


def test_parameters_have_the_names_of_the_options(tmp_path: Path) -> None:
    plan = longtake.plan(
        CLIP, prompt="x", start_frame_num=8, video_reverse_video=True, lora="owner/a,scale=0.5", seed=2**64 - 1
    )
    assert plan.context.reverse
    assert plan.seed == 2**64 - 1
    assert [(one.source, one.scales) for one in plan.adapters] == [("owner/a", (0.5,))]
    sized = longtake.plan(CLIP, prompt="x", endpoint="2.3", video_size=(200, 100))
    assert sized.size == longtake.plan(CLIP, prompt="x", endpoint="2.3", video_size="200x100").size == (200, 100)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"num_frame": 9}, "num_frame is not an option of 0.9.8; perhaps num_frames is meant"),
        ({"fps": 12}, "fps is not an option of 0.9.8; these endpoints have it: 2.3, 2.3-lora."),
        ({"endpoint": "1.0"}, "There is no endpoint '1.0'; there are 0.9.8"),
        ({"endpoint": "ltx-2.3"}, "'ltx-2.3' fits several endpoints: 2.3 "),
        ({"model": "ltx2-tiny"}, "ltx2-tiny cannot do what fal-ai/ltxv-13b-098-distilled/extend asks for"),
        ({"model": "ltx-9"}, "There is no model named 'ltx-9'"),
        ({"num_frames": 9, "new_frames": 9}, "Both num_frames and new_frames are given"),
        ({"seed": 2**64}, "seed is 18446744073709551616"),
        ({"seed": -(2**63) - 1}, "seed is -9223372036854775809"),
        ({"prompt": ""}, "prompt is missing"),
        ({"lora": "none.safetensors"}, "There is no LoRA file 'none.safetensors' on this machine."),
        ({"lora": {"path": "owner/a", "scal": 1}}, "loras.0.scal is not a field of this endpoint; perhaps scale is"),
        ({"endpoint": "2.3", "end_image_url": Path("none.png")}, "There is no file 'none.png'."),
    ],
)
def test_errors_are_sentences(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(sentence)):
        longtake.plan(CLIP, **({"prompt": "x"} | arguments))


def test_existing_files_are_overwritten_only_on_request(short: Path, tmp_path: Path) -> None:
    source = tmp_path / "clip.mp4"
    shutil.copyfile(short, source)
    existing = tmp_path / "existing.mp4"
    existing.write_bytes(b"mine")
    for out, sentence in (
        (existing, "overwrite=True overwrites it"),
        (source, "is the source itself"),
        (tmp_path / "none" / "a.mp4", "There is no folder"),
        (tmp_path / "a.avi", "ends in .avi"),
    ):
        with pytest.raises(InvalidRequest, match=sentence):
            longtake.extend(source, out, **QUICK)
    assert existing.read_bytes() == b"mine"
    longtake.extend(source, existing, overwrite=True, new_frames=8, quality="low", **QUICK)
    assert count(existing) == FRAMES + 8


def test_an_exception_of_on_progress_cancels_and_is_raised(short: Path, tmp_path: Path) -> None:
    stages: list[str] = []

    def on_progress(progress: Progress) -> None:
        stages.append(progress.stage)
        if progress.stage == "sampling" and progress.step == 1:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        longtake.extend(short, tmp_path / "out.mp4", on_progress=on_progress, **QUICK)
    assert stages[-1] == "sampling"
    assert not list(tmp_path.iterdir())


def test_a_model_is_loaded_once_and_extends_many(short: Path, tmp_path: Path) -> None:
    loads: list[Progress] = []

    def on_progress(progress: Progress) -> None:
        if progress.stage.startswith("load"):
            loads.append(progress)

    with longtake.load("ltxv-tiny") as model:
        for number in range(2):
            out = tmp_path / f"{number}.mp4"
            result = model.extend(short, out, new_frames=8, on_progress=on_progress, **QUICK)
            assert result.plan.model == "ltxv-tiny"
        out = tmp_path / "097.mp4"
        small: dict[str, Any] = {"resolution": "480p", "num_inference_steps": 2, "new_frames": 8}
        other = model.extend(short, out, endpoint="0.9.7", prompt="x", **small)
        assert other.plan.endpoint == "fal-ai/ltx-video-v097/extend"
    assert not loads, "the model was in memory"
    assert (tmp_path / "0.mp4").read_bytes() == (tmp_path / "1.mp4").read_bytes(), "the same seed, the same bits"
    with pytest.raises(NotSupported):
        longtake.load("no-model")


def test_every_model_has_an_endpoint() -> None:
    for card in CARDS.values():
        assert library.endpoint_for(card).family.name == card.family
    assert library.endpoint_for(CARDS["ltx2-tiny"]).name == "2.3"


def test_public_names_are_importable() -> None:
    assert set(longtake.__all__) >= {"extend", "plan", "load", "Result", "Plan", "errors"}
    for name in longtake.__all__:
        assert getattr(longtake, name) is not None
    assert issubclass(longtake.errors.InvalidRequest, LongtakeError)
    with pytest.raises(AttributeError, match="nothing"):
        longtake.nothing  # noqa: B018
