"""The names of devices in settings: a single device, or several that carry out each request together."""

import re
from collections import Counter
from collections.abc import Iterable

DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,4})?")
"""The name of a single device."""

NUMBERED_GPU = re.compile(r"cuda:(\d{1,4})")


def check_device(text: str) -> str:
    """Returns `text` if it names a device, or devices that can work together, joined by `+`: different CUDA GPUs with
    their numbers, or `cpu` several times, which is only useful to try it out.

    Raises ValueError for any other text.
    """
    names = text.split("+")
    if not all(map(DEVICE.fullmatch, names)):
        raise ValueError(f"{text!r} is not a device, as in cuda:0, or devices that work together, as in cuda:0+cuda:1")
    if len(names) == 1 or set(names) == {"cpu"}:
        return text
    found = [NUMBERED_GPU.fullmatch(name) for name in names]
    numbers = [int(match[1]) for match in found if match]
    if len(numbers) < len(names):
        raise ValueError(f"{text!r} joins other devices than CUDA GPUs with their numbers, as in cuda:0+cuda:1")
    twice = next((number for number in numbers if numbers.count(number) > 1), None)
    if twice is not None:
        raise ValueError(f"{text!r} names cuda:{twice} twice; each device that works together must be another one")
    return text


def slot_devices(slots: Iterable[str], device: str) -> list[str]:
    """Returns the device of each slot.

    slots: the setting `slots`.
    device: the setting `device`, which a slot `auto` has.
    """
    named = (slot.partition("@")[0] for slot in slots)
    return [device if name == "auto" else name for name in named]


def slots_per_gpu(device: str, slots: Iterable[str]) -> int:
    """Returns how many slots use the same CUDA GPU as `device`, at least 1. Of several devices that work together, the
    GPU that most slots use counts.

    device: the setting `device` of a process.
    slots: the setting `slots` of the machine's server, which the process may belong to. `auto` is the first GPU.
    """
    used = Counter(gpu for slot in slots for gpu in _gpu_numbers(slot.partition("@")[0]))
    return max([1, *(used[gpu] for gpu in _gpu_numbers(device))])


def _gpu_numbers(device: str) -> set[int]:
    """Returns the numbers of the CUDA GPUs that a setting names."""
    names = ["cuda:0" if name in ("auto", "cuda") else name for name in device.split("+")]
    return {int(match[1]) for match in map(NUMBERED_GPU.fullmatch, names) if match}


def shared_gpus(devices: Iterable[str]) -> list[str]:
    """Returns the names of the CUDA GPUs that several of the devices have, sorted. `cuda` is the GPU `cuda:0`."""
    names = [name for device in devices for name in device.split("+")]
    gpus = Counter("cuda:0" if name == "cuda" else name for name in names if name.startswith("cuda"))
    return sorted(gpu for gpu, count in gpus.items() if count > 1)
