"""Requests as they are made ready: what they name is fetched and opened, and every error names its field."""

import base64
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from longtake.endpoints import ltx23, ltxv098
from longtake.endpoints.shared import parse
from longtake.errors import InvalidRequest, LongtakeError, NotSupported
from longtake.models.registry import card, missing
from longtake.plans import LoRA, LTX2Plan
from longtake.prepare import Prepared, Request, prepared
from longtake.settings import Settings
from tests.media.clips import FASTSTART, X264_SHORT_GOP, Clip

PUBLISHED = card("ltx-2.3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip, a picture, and text."""
    place = tmp_path_factory.mktemp("given")
    Clip("clip.mp4", options=X264_SHORT_GOP, muxer_options=FASTSTART, rate=Fraction(24)).write(place)
    Image.new("RGB", (60, 40), (200, 10, 10)).save(place / "end.png")
    (place / "text").write_text("neither")
    return place


def settings(folder: Path, **given: Any) -> Settings:
    return Settings(models_dir=folder / "models", loras_dir=folder / "loras", **given)


def ready(folder: Path, settings: Settings, model: Any = PUBLISHED, **fields: Any) -> Prepared:
    """A 2.3 request made ready; `{}` in a field's text is the folder."""
    told = {"prompt": "x", "video_url": "{}/clip.mp4"} | fields
    filled = {name: value.format(folder) if isinstance(value, str) else value for name, value in told.items()}
    request: Request = parse(ltx23.Request, filled)
    with prepared(request, model, settings, allow_local=True) as one:
        return one


def test_the_end_image_is_read(folder: Path) -> None:
    one = ready(folder, settings(folder), end_image_url="{}/end.png")
    assert one.end_image is not None
    assert np.array_equal(one.end_image, np.full((40, 60, 3), (200, 10, 10), np.uint8))
    assert isinstance(one.plan, LTX2Plan)
    assert one.plan.end_image == f"{folder}/end.png"
    assert ready(folder, settings(folder)).end_image is None


def test_the_end_image_may_be_a_data_uri(folder: Path) -> None:
    text = base64.b64encode((folder / "end.png").read_bytes()).decode()
    one = ready(folder, settings(folder), end_image_url=f"data:image/png;base64,{text}")
    assert one.end_image is not None
    assert isinstance(one.plan, LTX2Plan)
    assert one.plan.end_image == "data:image/png;base64,..."


@pytest.mark.parametrize(
    ("fields", "loc", "message"),
    [
        ({"video_url": "{}/text"}, ("video_url",), "The file is text"),
        ({"video_url": "ftp://x"}, ("video_url",), "There is no file"),
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
    asked: list[str] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        raise httpx.ConnectError("is not to be asked")

    fields = {"video_url": str(folder / "clip.mp4")} | {name: "http://inside.example/x"}
    request: Request = parse(ltx23.Request, {"prompt": "x"} | fields)
    transport = httpx.MockTransport(refuse)
    with (
        pytest.raises(InvalidRequest, match="is not to be asked") as error,
        prepared(request, PUBLISHED, settings(folder), allow_local=True, transport=transport),
    ):
        pass
    assert (asked, error.value.loc) == (["inside.example"], ("body", name))


def test_local_files_are_for_the_command_line(folder: Path) -> None:
    request: Request = parse(ltx23.Request, {"prompt": "x", "video_url": str(folder / "clip.mp4")})
    with pytest.raises(LongtakeError, match="neither an http"), prepared(request, PUBLISHED, settings(folder)):
        pass


@pytest.mark.parametrize(
    ("module", "data", "model"),
    [
        (ltx23, {"video_url": "x"}, "ltxv-tiny"),
        (ltxv098, {"video": {"video_url": "x"}}, "ltx2-tiny"),
    ],
)
def test_a_model_of_the_other_family_is_refused(module: Any, data: dict[str, Any], model: str, folder: Path) -> None:
    request = parse(module.Request, {"prompt": "x"} | data)
    with (
        pytest.raises(InvalidRequest, match=f"{model} cannot do what {module.ENDPOINT}") as error,
        prepared(request, card(model), settings(folder)),
    ):
        pass
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
def test_what_is_not_installed_names_its_field(
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
    off = {"use_multiscale": False, "distill_lora_first_pass_scale": 0}
    assert ready(folder, here, **off).plan.num_passes == 1


def test_a_plan_needs_no_installed_model(folder: Path) -> None:
    assert ready(folder, settings(folder), camera_lora="static").plan.model == "ltx-2.3"


def test_loras_and_new_frames_of_the_command_line_reach_the_plan(folder: Path) -> None:
    request: Request = parse(ltx23.Request, {"prompt": "x", "video_url": str(folder / "clip.mp4"), "seed": 5})
    lora = LoRA("a", 0.5, None)
    with prepared(request, PUBLISHED, settings(folder), allow_local=True, new_frames=900, loras=(lora,)) as one:
        assert (one.plan.loras, one.plan.new_frames, one.plan.seed) == ((lora,), 900, 5)


def test_prices_are_settings(folder: Path) -> None:
    dear = settings(folder, price_ltx2_per_megapixel="1", price_ltx2_per_megapixel_with_lora="2")
    assert ready(folder, dear, video_size="square", num_frames=9).plan.price_usd == 3
    assert ready(folder, dear, video_size="square", num_frames=9, camera_lora="static").plan.price_usd == 6
