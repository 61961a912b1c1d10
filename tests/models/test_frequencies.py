"""No tensor on a device without float64 is in float64. A stand-in for such a device is torch's device "meta", which has
shapes and dtypes but no values."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.transformers.transformer_ltx2 import LTX2AudioVideoRotaryPosEmbed
from diffusers.pipelines.ltx2.connectors import LTX2RotaryPosEmbed1d
from torch.utils._python_dispatch import TorchDispatchMode

import longtake
from longtake.models import frequencies
from longtake.models.frequencies import keep_float64_on_host, sinusoids
from tests.models import small_ltx2

HOST_ONLY = {
    "models/frequencies.py",
    "sampling/schedules.py",
    "sampling/preview.py",
    "families/ltx2/mel.py",
    "models/layout_ltx2.py",
}
"""The files that may name float64: they compute on the host, or read the word in a checkpoint's settings."""


class RefusingFloat64(TorchDispatchMode):
    """Raises an error for every operation whose result is a float64 tensor on the device "meta"."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.device.type == "meta":
            assert result.dtype != torch.float64, f"{func} made float64 on the device"
        return result


@pytest.fixture(autouse=True)
def meta_has_no_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frequencies, "WITHOUT_FLOAT64", {"meta"})


def video_layer() -> Any:
    return LTX2AudioVideoRotaryPosEmbed(dim=24, num_attention_heads=2, rope_type="split")


def text_layer() -> Any:
    return LTX2RotaryPosEmbed1d(dim=24, num_attention_heads=2)


def test_a_rotary_layer_makes_no_float64_on_a_device_without_it() -> None:
    layer = text_layer()
    with pytest.raises(AssertionError, match="float64"), RefusingFloat64():
        layer(1, 7, device="meta")
    keep_float64_on_host(layer)
    with RefusingFloat64():
        cosines, sines = layer(1, 7, device="meta")
    assert (cosines.device.type, sines.dtype) == ("meta", torch.float32)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_embeddings_are_the_same(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(frequencies, "WITHOUT_FLOAT64", {"cpu"} if device == "cpu" else {"meta"})
    bounds = torch.rand(1, 3, 5, 2)
    for layer, call in ((video_layer(), (bounds,)), (text_layer(), (1, 7, "cpu"))):
        expected = layer(*call)
        keep_float64_on_host(layer)
        found = layer(bounds) if len(call) == 1 else layer(1, 7, device="cpu")
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_the_rotary_layers_of_both_parts_are_found() -> None:
    for part in ("transformer", "connectors"):
        model: Any = small_ltx2.model(part)
        layers = [layer for layer in model.modules() if hasattr(layer, "double_precision")]
        before = [layer.forward for layer in layers]
        keep_float64_on_host(model)
        assert layers
        assert all(layer.forward != forward for layer, forward in zip(layers, before, strict=True))


def test_sinusoids_make_no_float64_on_the_device() -> None:
    with RefusingFloat64():
        assert sinusoids(torch.rand(3, device="meta"), 8).dtype == torch.float32
    times = torch.tensor([0.0, 1.0, 1000.0])
    expected = times[:, None] * torch.tensor([1.0, 0.1, 0.01, 0.001])
    assert torch.allclose(sinusoids(times, 8), torch.cat([expected.cos(), expected.sin()], 1), atol=1e-4)


def test_other_modules_do_not_name_torchs_float64() -> None:
    root = Path(longtake.__file__).parent
    named = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(r"torch\.(float64|double)\b|\.double\(\)|\"float64\"", path.read_text(encoding="utf-8"))
    }
    assert named <= HOST_ONLY
