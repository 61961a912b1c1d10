"""Requests that several devices carry out together: the results are those of one device."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from longtake.endpoints import ltxv097
from longtake.errors import Cancelled
from longtake.models.registry import card
from longtake.models.replicas import Copy
from longtake.runner import Runner
from longtake.sampling.resume import Resume
from longtake.video import Progress
from tests.test_on_gpu import LTX2, Case, _chosen, _run, _settings
from tests.test_runner_ltx2 import film

ADAPTED = LTX2.but(
    {
        "video_cfg_scale": 3,
        "audio_cfg_scale": 7,
        "video_stg_scale": 1,
        "video_modality_scale": 3,
        "use_multiscale": True,
        "distill_lora_first_pass_scale": 0.3,
    }
)
"""Four predictions in the first pass, one in the second, and an adapter with another strength in each."""

DEV = Case(ltxv097, "ltxv-tiny", {"num_inference_steps": 3})
"""Up to three predictions in a step."""

NAMES = {
    "2.3": ADAPTED,
    "2.3 with adapters beside the weights": ADAPTED.but(ADAPTED.fields, quantise="fp8"),
    "0.9.7": DEV,
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("source") / "clip.mov", sound=True)


def _windows(case: Case, device: str, clip: Path, folder: Path, **options: Any) -> dict[str, Tensor]:
    """The tensors of all windows that a request has sampled."""
    folder.mkdir(exist_ok=True)
    here = _settings(case, device)
    _run(case, Runner(here), here, clip, folder, resume=Resume(folder), **options)
    return {
        f"{path.name} {name}": tensor
        for path in folder.glob("*.safetensors")
        for name, tensor in load_file(path).items()
    }


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in NAMES.items()])
def test_the_result_is_that_of_one_device(case: Case, clip: Path, tmp_path: Path) -> None:
    expected = _windows(case, "cpu", clip, tmp_path / "one")
    assert expected
    for device in ("cpu+cpu", "cpu+cpu+cpu"):
        got = _windows(case, device, clip, tmp_path / device)
        assert got.keys() == expected.keys()
        for name in expected:
            print(device, name, (got[name] - expected[name]).abs().max(), expected[name].abs().max())
            assert torch.allclose(got[name], expected[name], atol=1e-3), name
