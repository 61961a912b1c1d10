"""The endpoint of LTX-2.3 with LoRAs: the fields of 2.3 and `loras`."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from longtake.endpoints import ltx23, ltx23_lora
from longtake.endpoints.fields import LoRAWeight
from longtake.errors import InvalidRequest
from longtake.models.registry import LORAS, WEIGHTS
from longtake.plans import PlannedAdapter
from tests.endpoints.conftest import LENGTH, Make, frames_of
from tests.endpoints.planning import CLIP, REQUIRED, Effect, check_ranges, options_of, plan_of, request_of, schema_of
from tests.endpoints.test_ltx23 import DISTILL, REACHES

pytestmark = pytest.mark.usefixtures("forked_decoders")

ENDPOINT = ltx23_lora.ENDPOINT
NONE: dict[str, Any] = {"loras": []}


def lora(
    path: str, scale: float = 1, weight_name: str | None = None, index: int = 0, passes: int = 2
) -> PlannedAdapter:
    return PlannedAdapter(path, (scale,) * passes, ("body", "loras", index, "path"), weight_name)


def test_the_request_is_that_of_23_and_a_list_of_loras() -> None:
    assert schema_of(ENDPOINT.Request) == schema_of(ltx23.Request) | {"loras": (REQUIRED,)}
    assert schema_of(LoRAWeight) == {"path": (REQUIRED,), "scale": (1, 0, 4), "weight_name": (None,)}
    assert list(ENDPOINT.Response.model_fields) == ["video", "seed", "prompt"]
    check_ranges(ENDPOINT, NONE)


@pytest.mark.parametrize("path", ["a" * 4096, " data:," + "a" * 5000, "HTTPS://host/" + "a" * 5000])
def test_a_url_and_a_path_within_the_limit_are_valid(path: str) -> None:
    assert LoRAWeight(path=path, scale=1, weight_name="b" * 4096).path == path


@pytest.mark.parametrize(
    ("loras", "loc", "message"),
    [
        (None, ("loras",), "loras is None"),
        ([{"path": "a", "scale": 4.5}], ("loras", 0, "scale"), "loras.0.scale is 4.5; it must be at most 4"),
        ([{"path": "a"}, {"scale": 1}], ("loras", 1, "path"), "loras.1.path is missing"),
        (
            [{"path": "a/" * 2049}],
            ("loras", 0, "path"),
            "loras.0.path is 'a/a/.*: string should have at most 4096 char",
        ),
        ([{"path": "x:" + "a" * 4096}], ("loras", 0, "path"), "should have at most 4096 characters"),
        (
            [{"path": "a", "weight_name": "b" * 4097}],
            ("loras", 0, "weight_name"),
            "should have at most 4096 characters",
        ),
        ([{"path": "a", "scale": -1}], ("loras", 0, "scale"), "must be at least 0"),
    ],
)
def test_errors_name_the_wrong_lora(loras: Any, loc: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as error:
        request_of(ENDPOINT, {"loras": loras})
    assert error.value.loc == ("body", *loc)
    with pytest.raises(InvalidRequest, match="loras is missing"):
        request_of(ENDPOINT, {})


EFFECTS = [
    Effect(
        {"loras": [{"path": "a"}]},
        {"adapters": (lora("a"), DISTILL)},
        {"adapters": (lora("a"), DISTILL)},
        base=NONE,
    ),
    Effect(
        {"loras": [{"path": "b", "scale": 2, "weight_name": "c.safetensors"}, {"path": "a", "scale": 0.5}]},
        {"adapters": (lora("b", 2, "c.safetensors"), lora("a", 0.5, index=1), DISTILL)},
        {"adapters": (lora("b", 2, "c.safetensors"), lora("a", 0.5, index=1), DISTILL)},
        base=NONE,
    ),
]


@pytest.mark.parametrize("effect", EFFECTS)
def test_each_lora_becomes_an_adapter_before_the_endpoint_s_own(effect: Effect) -> None:
    effect.check(ENDPOINT)


def test_a_lora_is_applied_in_every_pass() -> None:
    plan = plan_of(ENDPOINT, {"loras": [{"path": "a"}], "use_multiscale": False, "distill_lora_first_pass_scale": 0})
    assert plan.adapters == (lora("a", passes=1),)
    assert plan_of(ENDPOINT, {"loras": [{"path": "a", "scale": 0}]}).adapters == (DISTILL,)


@pytest.mark.parametrize(("fields", "wanted"), REACHES, ids=lambda case: next(iter(case)))
def test_every_other_field_has_the_same_effect_as_at_23(fields: dict[str, Any], wanted: dict[str, Any]) -> None:
    plan = plan_of(ENDPOINT, NONE | fields)
    assert {name: getattr(plan, name) for name in wanted} == wanted
    assert options_of(ENDPOINT, NONE | fields) == options_of(ltx23.ENDPOINT, fields)


@pytest.mark.parametrize("loras", [[], [{"path": "a"}]])
def test_the_price_is_that_of_23_with_a_lora(loras: list[Any]) -> None:
    sized = {"video_size": {"width": 1000, "height": 1000}, "num_frames": 100}
    plan = plan_of(ENDPOINT, {"loras": loras, **sized})
    assert (plan.billed_units, plan.price_usd) == (100, 100 * Fraction("0.001805"))
    assert ENDPOINT.source_url(request_of(ENDPOINT, NONE)) == "x"
    assert ENDPOINT.options(request_of(ENDPOINT, NONE | {"seed": 5}), CLIP).seed == 5


QUICK = {
    "num_inference_steps": 8,
    "num_context_frames": 9,
    "use_multiscale": False,
    "generate_audio": False,
    "enable_prompt_expansion": False,
    "video_cfg_scale": 1,
    "video_stg_scale": 0,
}


def test_a_lora_changes_the_new_frames_by_its_scale(make: Make) -> None:
    """Uses the embedded model's distill adapter as a user's LoRA."""
    path = str(WEIGHTS / "ltx2-tiny" / LORAS / "distill.safetensors")
    plain, light, strong = (
        frames_of(make(ENDPOINT, QUICK | {"loras": loras}).path)[LENGTH:]
        for loras in ([], [{"path": path, "scale": 0.01}], [{"path": path, "scale": 2}])
    )
    small, large = (np.abs(one.astype(int) - plain).mean() for one in (light, strong))
    assert large > small
    assert large > 0.5
