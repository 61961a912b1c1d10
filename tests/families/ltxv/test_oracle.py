"""The 0.9.x recipe against the original implementation, tensor by tensor."""

from pathlib import Path

import pytest

from bench.oracle import ltxv
from bench.oracle.cases import LTXV_EXTENSIONS
from longtake.families.ltxv.frame_counts import plan_windows
from tests.conftest import load_case


@pytest.mark.parametrize("name", LTXV_EXTENSIONS)
def test_one_scale(oracle: Path, name: str) -> None:
    case = load_case(oracle, name)
    case.check_all(ltxv.one_scale(case))


@pytest.mark.parametrize("name", ["ltxv_extend_two_scale", "ltxv_extend_two_scale_dev"])
def test_two_scales(oracle: Path, name: str) -> None:
    case = load_case(oracle, name)
    begun: list[int | None] = []
    case.check_all(ltxv.two_scales(case, begun.append))
    assert begun == [0, 1, None], "the adapters' strengths are set before each pass"


def test_long_video(oracle: Path) -> None:
    case = load_case(oracle, "ltxv_long")
    params = case.params
    plan = plan_windows(params["total_latent_frames"], params["tile_latents"], params["overlap_latents"])
    assert [{"start": w.start, "end": w.stop} for w in plan] == params["plan"]
    case.check_all(ltxv.long_video(case))


def test_window_plans_and_fusing(oracle: Path) -> None:
    case = load_case(oracle, "ltxv_long_chunks")
    for plan in case.params["plans"]:
        got = plan_windows(plan["total"], plan["tile"], plan["overlap"])
        assert [[w.start, w.stop] for w in got] == plan["plan"]
    case.check_all(ltxv.fusing(case))


def test_transformer_forward(oracle: Path) -> None:
    case = load_case(oracle, "ltxv_transformer")
    case.check_all(ltxv.forward(case))


def test_upsampler_adain_tone_map(oracle: Path) -> None:
    case = load_case(oracle, "ltxv_upsampler_adain")
    case.check_all(ltxv.upsampler(case))


def test_vae(oracle: Path) -> None:
    case = load_case(oracle, "ltxv_vae")
    case.check_all(ltxv.vae(case))
