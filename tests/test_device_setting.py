"""What names a device, or several devices that work together, and the sentences that refuse anything else."""

import pytest

from longtake.device_setting import shared_gpus, slot_devices, slots_per_gpu
from longtake.errors import InvalidRequest
from longtake.settings import settings


@pytest.mark.parametrize(
    "text", ["auto", "cpu", "mps", "cuda", "cuda:1", "cuda:0+cuda:1", "cuda:3+cuda:1+cuda:2", "cpu+cpu", "cpu+cpu+cpu"]
)
def test_devices_are_named_alone_or_together(text: str) -> None:
    assert settings(device=text).device == text
    assert settings(slots=f"{text},{text}@ltx").slots == (text, f"{text}@ltx")


NO_DEVICE = "is not a device, as in cuda:0, or devices that work together, as in cuda:0+cuda:1"
OTHERS = "joins other devices than CUDA GPUs with their numbers"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("cuda:0+", NO_DEVICE),
        ("+cuda:0", NO_DEVICE),
        ("cuda:0++cuda:1", NO_DEVICE),
        ("cuda:0 + cuda:1", NO_DEVICE),
        ("gpu", NO_DEVICE),
        ("cpu+cuda:0", OTHERS),
        ("cuda+cuda:1", OTHERS),
        ("mps+mps", OTHERS),
        ("auto+auto", OTHERS),
        ("cuda:0+cuda:0", "names cuda:0 twice; each device that works together must be another one"),
        ("cuda:1+cuda:0+cuda:01", "names cuda:1 twice"),
    ],
)
def test_other_texts_are_refused_in_words(text: str, reason: str) -> None:
    for name in ("device", "slots"):
        with pytest.raises(InvalidRequest) as raised:
            settings(**{name: text})
        assert raised.value.message.startswith(f"LONGTAKE_{name.upper()}=")
        assert f"'{text}' {reason}" in raised.value.message


def test_a_pool_has_a_name() -> None:
    with pytest.raises(InvalidRequest, match="'cpu@' is not a device and its pool, as in cuda:0@ltx"):
        settings(slots="cpu@")


@pytest.mark.parametrize(
    ("devices", "shared"),
    [
        (["cuda:0", "cuda:1"], []),
        (["cuda:1", "cuda:0", "cuda:1", "cuda"], ["cuda:0", "cuda:1"]),
        (["cuda:0+cuda:1", "cuda:1+cuda:2"], ["cuda:1"]),
        (["cpu", "cpu", "auto", "auto"], []),
    ],
)
def test_gpus_of_several_devices_are_found(devices: list[str], shared: list[str]) -> None:
    assert shared_gpus(devices) == shared


@pytest.mark.parametrize(
    ("device", "slots", "count"),
    [
        ("cuda:0", ["cuda:0", "cuda:1"], 1),
        ("cuda:1", ["auto", "cuda:1"], 1),
        ("auto", ["auto"], 1),
        ("auto", ["auto", "auto@ltx"], 2),
        ("cuda", ["cuda:0@ltx", "cuda", "cuda:1"], 2),
        ("cuda:0+cuda:1", ["cuda:0+cuda:1", "cuda:1", "cuda:1@ltx", "cuda:2"], 3),
        ("cpu", ["cpu", "cpu"], 1),
        ("mps", ["mps", "mps"], 1),
        ("cuda:0", [], 1),
    ],
)
def test_the_slots_of_a_gpu_are_counted(device: str, slots: list[str], count: int) -> None:
    """On a machine with GPUs, `auto` is the first one."""
    assert slots_per_gpu(device, slots) == count


def test_a_slot_with_no_device_of_its_own_has_that_of_the_setting() -> None:
    assert slot_devices(["auto", "cuda:1@ltx", "auto@ltx"], "cuda:0") == ["cuda:0", "cuda:1", "cuda:0"]
