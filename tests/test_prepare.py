"""Preparing a request: its files are fetched and opened, its work is planned, and errors name their field."""

import base64
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from longtake.endpoints import Endpoint, ltx23, ltx23_quality, ltxv097_dev, ltxv098
from longtake.endpoints.validation import parse
from longtake.errors import InvalidRequest, LongtakeError, NotSupported, VideoTooLong
from longtake.families import plan_from_json, plan_to_json
from longtake.models.choice import ModelChoice
from longtake.models.registry import ModelCard, card, missing
from longtake.planning import Overrides
from longtake.plans import Plan, PlannedAdapter, check_repeats
from longtake.prepare import TRANSPARENT_IMAGE_NOTE, Fetcher, Job, prepare, without_prompts
from longtake.settings import Settings
from longtake.video import VideoInfo
from tests.media.clips import FASTSTART, X264_SHORT_GOP, Clip, write_gif

pytestmark = pytest.mark.usefixtures("forked_decoders")

PUBLISHED = card("ltx-2.3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip, a picture, and text."""
    place = tmp_path_factory.mktemp("sources")
    Clip("clip.mp4", options=X264_SHORT_GOP, muxer_options=FASTSTART, rate=Fraction(24)).write(place)
    Image.new("RGB", (60, 40), (200, 10, 10)).save(place / "end.png")
    (place / "text").write_text("neither")
    return place


def settings(folder: Path, **fields: Any) -> Settings:
    return Settings(models_dir=folder / "models", loras_dir=folder / "loras", **fields)


LOCAL = Fetcher(allow_local=True)
NO_OVERRIDES = Overrides()


def ready(
    folder: Path,
    settings: Settings,
    model: ModelCard = PUBLISHED,
    endpoint: Endpoint[Any, Any] = ltx23.ENDPOINT,
    overrides: Overrides = NO_OVERRIDES,
    plan: Plan | None = None,
    **fields: Any,
) -> Job:
    """A request made ready, by default of 2.3; `{}` in a field's text is the folder."""
    source: dict[str, Any] = {"video_url": "{}/clip.mp4"}
    values = {"prompt": "x"} | (source if endpoint.source_field == ("video_url",) else {"video": source}) | fields

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: filled(part) for name, part in value.items()}
        return value.format(folder) if isinstance(value, str) else value

    request = parse(endpoint.Request, filled(values))
    choice = ModelChoice(model)
    with prepare(endpoint, request, choice, settings, overrides=overrides, fetcher=LOCAL, plan=plan) as job:
        return job


def test_the_plan_begins_with_the_notes_on_the_source(folder: Path) -> None:
    data = (folder / "clip.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(data[: len(data) * 4 // 5])
    plan = ready(folder, settings(folder), video_url="{}/cut.mp4", num_context_frames=9).plan
    assert plan.notes[0].startswith("The source is damaged or cut off after 0.")
    assert plan.shown_frames < 24


def test_the_end_image_is_read(folder: Path) -> None:
    one = ready(folder, settings(folder), end_image_url="{}/end.png")
    assert one.end_image is not None
    assert np.array_equal(one.end_image, np.full((40, 60, 3), (200, 10, 10), np.uint8))
    assert one.plan.end_image == f"{folder}/end.png"
    assert ready(folder, settings(folder)).end_image is None


def test_a_transparent_end_image_has_a_note(folder: Path) -> None:
    Image.new("RGBA", (60, 40), (200, 10, 10, 99)).save(folder / "glass.png")
    assert ready(folder, settings(folder), end_image_url="{}/glass.png").notes == (TRANSPARENT_IMAGE_NOTE,)
    assert ready(folder, settings(folder), end_image_url="{}/end.png").notes == ()


def test_the_end_image_may_be_a_data_uri(folder: Path) -> None:
    text = base64.b64encode((folder / "end.png").read_bytes()).decode()
    one = ready(folder, settings(folder), end_image_url=f"data:image/png;base64,{text}")
    assert one.end_image is not None
    assert one.plan.end_image == "data:image/png;base64,..."


@pytest.mark.parametrize(
    ("fields", "loc", "message"),
    [
        ({"video_url": "{}/text"}, ("video_url",), "The file is text"),
        ({"video_url": "ftp://x"}, ("video_url",), "is no address that can be read"),
        ({"end_image_url": "{}/text"}, ("end_image_url",), "end_image_url: The file is not a picture"),
        ({"end_image_url": "{}/clip.mp4"}, ("end_image_url",), "end_image_url: The file is not a picture"),
        ({"end_image_url": "{}/none.png"}, ("end_image_url",), "end_image_url: There is no file"),
        ({"end_image_url": ""}, ("end_image_url",), "end_image_url: There is no file"),
        ({"extend_direction": "sideways"}, ("extend_direction",), "must be one of"),
    ],
)
def test_errors_name_their_field(fields: dict[str, Any], loc: tuple[str, ...], message: str, folder: Path) -> None:
    with pytest.raises(InvalidRequest, match=message) as error:
        ready(folder, settings(folder), **fields)
    assert error.value.loc == ("body", *loc)


def test_the_limits_hold_for_the_image_too(folder: Path) -> None:
    Image.new("RGB", (400, 400)).save(folder / "large.png")
    with pytest.raises(InvalidRequest, match="end_image_url: The picture has 400x400 pixels") as error:
        ready(folder, settings(folder, max_source_pixels=128 * 96), end_image_url="{}/large.png")
    assert error.value.type == "image_too_large"


@pytest.mark.parametrize("name", ["video_url", "end_image_url"])
def test_every_download_goes_through_the_transport(name: str, folder: Path) -> None:
    contacted: list[str] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        contacted.append(request.url.host)
        raise httpx.ConnectError("must not be contacted")

    fields = {"video_url": str(folder / "clip.mp4")} | {name: "http://inside.example/x"}
    request = parse(ltx23.Request, {"prompt": "x"} | fields)
    fetcher = Fetcher(allow_local=True, transport=httpx.MockTransport(refuse))
    with (
        pytest.raises(InvalidRequest, match="must not be contacted") as error,
        prepare(ltx23.ENDPOINT, request, ModelChoice(PUBLISHED), settings(folder), fetcher=fetcher),
    ):
        pass
    assert (contacted, error.value.loc) == (["inside.example"], ("body", name))


def test_local_files_are_for_the_command_line(folder: Path) -> None:
    request = parse(ltx23.Request, {"prompt": "x", "video_url": str(folder / "clip.mp4")})
    with (
        pytest.raises(LongtakeError, match="neither an http"),
        prepare(ltx23.ENDPOINT, request, ModelChoice(PUBLISHED), settings(folder)),
    ):
        pass


def test_files_of_this_server_are_not_fetched(folder: Path, tmp_path: Path) -> None:
    own = {"https://here/clip": nullcontext(folder / "clip.mp4"), "https://here/end": nullcontext(folder / "end.png")}
    request = parse(
        ltx23.Request, {"prompt": "x", "video_url": "https://here/clip", "end_image_url": "https://here/end"}
    )
    fetcher = Fetcher(open_own=own.get, folder=tmp_path)
    with prepare(ltx23.ENDPOINT, request, ModelChoice(PUBLISHED), settings(folder), fetcher=fetcher) as job:
        assert job.source.facts.num_frames == 24
        assert job.end_image is not None
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_folder_is_not_fetched_again(folder: Path, tmp_path: Path) -> None:
    contacted: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        contacted.append(request.url.path)
        return httpx.Response(200, content=iter([(folder / request.url.path[1:]).read_bytes()]))

    fields = {"video_url": "http://inside.example/clip.mp4", "end_image_url": "http://inside.example/end.png"}
    request = parse(ltx23.Request, {"prompt": "x"} | fields)
    fetcher = Fetcher(transport=httpx.MockTransport(answer), folder=tmp_path)
    for _ in range(2):
        with prepare(ltx23.ENDPOINT, request, ModelChoice(PUBLISHED), settings(folder), fetcher=fetcher) as job:
            assert job.end_image is not None
    assert contacted == ["/clip.mp4", "/end.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["end_image", "source"]


@pytest.mark.parametrize(("endpoint", "model"), [(ltx23.ENDPOINT, "ltxv-tiny"), (ltxv098.ENDPOINT, "ltx2-tiny")])
def test_a_model_of_the_other_family_is_refused(endpoint: Endpoint[Any, Any], model: str, folder: Path) -> None:
    with pytest.raises(InvalidRequest, match=f"{model} cannot do what {endpoint.id}") as error:
        ready(folder, settings(folder), card(model), endpoint)
    assert error.value.loc == ("model",)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("use_multiscale", {}),
        ("camera_lora", {"use_multiscale": False, "camera_lora": "static"}),
        ("distill_lora_first_pass_scale", {"use_multiscale": False}),
        ("distill_lora_second_pass_scale", {"distill_lora_first_pass_scale": 0}),
    ],
)
def test_the_error_of_a_missing_part_names_its_field(
    field: str, fields: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    for part in ("transformer", "vae", "audio_vae", "vocoder", "connectors", "text_encoder", "tokenizer"):
        (tmp_path / part).mkdir()
    if field == "distill_lora_second_pass_scale":
        (tmp_path / "latent_upsampler").mkdir()
    here = settings(folder, model_sources={"ltx-2.3": str(tmp_path)})
    assert not missing(PUBLISHED, here)
    with pytest.raises(NotSupported, match="on this machine") as error:
        ready(folder, here, **fields)
    assert error.value.loc == ("body", field)
    off: dict[str, Any] = {"use_multiscale": False, "distill_lora_first_pass_scale": 0}
    assert ready(folder, here, **off).plan.num_passes == 1


def test_a_plan_needs_no_installed_model(folder: Path) -> None:
    assert ready(folder, settings(folder), camera_lora="static").plan.model == "ltx-2.3"


def test_overrides_reach_the_plan(folder: Path) -> None:
    lora = PlannedAdapter("a", (0.5, 0.5), ("body", "loras", 0, "path"))
    overrides = Overrides(new_frames=900, own_rate=True, adapters=(lora,), output="VP9 (.webm)", quality="low")
    plan = ready(folder, settings(folder), overrides=overrides, seed=5, match_input_fps=False, fps=12).plan
    assert (plan.adapters[0], plan.new_frames, plan.seed) == (lora, 900, 5)
    assert plan.rate == 24
    assert (plan.output, plan.quality, plan.write_mode) == ("VP9 (.webm)", "low", "balanced")
    fast = ready(
        folder, settings(folder), overrides=Overrides(seed=6, write_mode="fast"), seed=5, video_quality="maximum"
    )
    assert (fast.plan.seed, fast.plan.quality, fast.plan.write_mode) == (6, "maximum", "fast")


def test_a_plan_holds_no_data_of_a_lora(folder: Path) -> None:
    """The job has the whole data URIs again, also with a plan that was stored."""
    uris = [f"{space}data:x/y;base64,{letter * 1000}" for space, letter in (("", "a"), (" ", "b"))]
    loras = tuple(PlannedAdapter(uri, (0.5, 0.5), ("body", "loras", i, "path")) for i, uri in enumerate(uris))
    overrides, plan = Overrides(adapters=loras), None
    request = parse(ltx23.Request, {"prompt": "x", "video_url": str(folder / "clip.mp4")})
    for _ in range(2):
        with prepare(
            ltx23.ENDPOINT,
            request,
            ModelChoice(PUBLISHED),
            settings(folder),
            overrides=overrides,
            fetcher=LOCAL,
            plan=plan,
        ) as job:
            plan = job.plan
            assert [one.source for one in plan.adapters] == ["data:x/y;base64,..."] * 2 + ["distill"]
            assert [one.source for one in job.adapters] == [*uris, "distill"]


def test_a_request_without_a_seed_gets_one_that_every_client_can_hold(folder: Path) -> None:
    seeds = {ready(folder, settings(folder)).plan.seed for _ in range(3)}
    assert len(seeds) == 3
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_the_plan_of_an_earlier_attempt_is_used_again(folder: Path) -> None:
    plan = ready(folder, settings(folder)).plan
    request = parse(ltx23.Request, {"prompt": "another", "video_url": str(folder / "clip.mp4")})
    with prepare(ltx23.ENDPOINT, request, ModelChoice(PUBLISHED), settings(folder), fetcher=LOCAL, plan=plan) as job:
        assert job.plan == replace(plan, prompt="another")


@pytest.mark.parametrize("endpoint", [ltxv098.ENDPOINT, ltx23_quality.ENDPOINT], ids=lambda one: one.name)
def test_a_setting_accelerates_requests_without_a_field_for_it(endpoint: Endpoint[Any, Any], folder: Path) -> None:
    model = card(endpoint.models[0])
    plain, fast = (
        ready(folder, settings(folder, acceleration=level), model, endpoint).plan for level in ("none", "high")
    )
    assert fast.evaluations < plain.evaluations
    requested = ready(folder, settings(folder, acceleration="high"), acceleration="none").plan
    assert requested.evaluations == ready(folder, settings(folder)).plan.evaluations, "the request's word counts"


@pytest.mark.parametrize(
    ("endpoint", "loc", "message"),
    [
        (ltxv097_dev.ENDPOINT, ("body",), "fal-ai/ltx-video-13b-dev/extend needs a latent upsampler"),
        (ltx23_quality.ENDPOINT, ("body",), "fal-ai/ltx-2.3-quality/extend-video needs a latent upsampler"),
    ],
    ids=lambda case: getattr(case, "name", None),
)
def test_an_endpoint_with_two_passes_needs_an_upsampler(
    endpoint: Endpoint[Any, Any], loc: tuple[str, ...], message: str, folder: Path, tmp_path: Path
) -> None:
    model = card(endpoint.models[0])
    for part in model.parts:
        if part != "upsampler":
            (tmp_path / part).mkdir()
    here = settings(folder, model_sources={model.name: str(tmp_path)})
    with pytest.raises(NotSupported, match=message) as error:
        ready(folder, here, model, endpoint)
    assert error.value.loc == loc


def test_large_frames_that_are_shown_for_minutes_are_refused_at_a_high_rate(folder: Path) -> None:
    """In 120 bytes a GIF can store frames of 4 megapixels that last 11 minutes each."""
    path = write_gif(folder / "long.gif", 2, (2000, 2000), delay_cs=65_535)
    assert path.stat().st_size < 120
    slow: dict[str, Any] = {"video_url": "{}/long.gif", "video_size": "square"}
    with pytest.raises(
        VideoTooLong, match=r"stores 2 frames of 2000 x 2000 pixels.* 78642 frames; at most 25006 "
    ) as error:
        ready(folder, settings(folder), match_input_fps=False, fps=60, **slow)
    assert error.value.loc == ("body", "video_url")
    assert len(ready(folder, settings(folder), **slow).plan.context) == 1311


@pytest.mark.parametrize(
    ("size", "seconds", "rate", "stored"),
    [((1920, 1080), 7200, 30, 3600), ((3840, 2160), 7200, 24, None), ((8192, 4320), 3600, 60, None)],
    ids=["slides", "film", "8K"],
)
def test_long_videos_are_not_taken_for_repeated_frames(
    size: tuple[int, int], seconds: int, rate: int, stored: int | None, folder: Path
) -> None:
    source = VideoInfo("mp4", "h264", *size, Fraction(rate), seconds * rate, stored_frames=stored)
    request = parse(ltx23.ENDPOINT.Request, {"prompt": "x", "video_url": "x", "match_input_fps": False, "fps": 60})
    plan = ltx23.ENDPOINT.plan(ltx23.ENDPOINT.options(request, source), source, PUBLISHED, 1, {})
    assert len(plan.context) == 60 * seconds
    check_repeats(plan, source)
    with pytest.raises(VideoTooLong):
        check_repeats(plan, replace(source, width=2 * 8192, height=2 * 4320, stored_frames=10))


def test_a_stored_plan_gets_its_prompts_from_the_request(folder: Path) -> None:
    prompts: dict[str, Any] = {"prompt": "a" * 1000, "negative_prompt": "b" * 1000}
    plan = ready(folder, settings(folder), **prompts).plan
    stored = without_prompts(plan_to_json(plan))
    assert not any(text in str(stored) for text in prompts.values())
    for document in (stored, plan_to_json(plan)):  # earlier servers stored the prompts too
        assert ready(folder, settings(folder), plan=plan_from_json(document), **prompts).plan == plan


def test_prices_are_settings(folder: Path) -> None:
    dear = settings(folder, prices={ltx23.ENDPOINT.id: {"usd": 1, "usd_with_lora": 2}})
    requested: dict[str, Any] = {"video_size": "square", "num_frames": 9}
    assert ready(folder, dear, **requested).plan.price_usd == 3
    assert ready(folder, dear, **requested, camera_lora="static").plan.price_usd == 6


def test_a_price_of_an_unknown_endpoint_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match="LONGTAKE_PRICES names 'none'"):
        ready(folder, settings(folder, prices={"none": 1}))
