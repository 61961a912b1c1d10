"""The checks of `longtake doctor` for devices and for models on them, with the devices of all slots of a server."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from longtake.cli.console import bytes_text
from longtake.cli.findings import Finding, checked
from longtake.device_setting import slot_devices, slots_per_gpu
from longtake.errors import LongtakeError
from longtake.host_memory import host_memory
from longtake.imports import importing_models
from longtake.models.registry import ModelCard, adapters, missing
from longtake.settings import Settings
from longtake.threads import prepare_threads

TOGETHER = (
    "the devices share out the predictions of a step: up to 4 of LTX-2.3 and 3 of LTX-Video dev; a distilled "
    "LTX-Video model needs 1, so only the first device works"
)
"""The text for the user that says what several devices do together."""


def places(settings: Settings) -> list[Settings]:
    """Returns the settings with which processes compute here: first those of the command line and the library, then
    those of each slot of `longtake serve` that has other devices, and whose devices this machine has.

    Raises `NotSupported` if this machine does not have the devices that the setting `device` names.
    """
    slots = slot_devices(settings.slots, settings.device)
    found: dict[str, Settings] = {}
    for device in (settings.device, *slots):
        place = settings.model_copy(update={"device": device, "slots": tuple(slots)})
        try:
            named = _names(place)
        except LongtakeError:
            if not found:
                raise
            continue  # `device_findings` reports it
        found.setdefault("cuda:0" if named == "cuda" else named, place)
    return list(found.values())


def device_findings(settings: Settings) -> Iterator[Finding]:
    """Yields the devices of this machine, those that the settings choose, and how these compute."""
    prepare_threads()
    with importing_models():
        import torch

        from longtake.models import memory

    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        yield Finding(f"cuda:{index}", "note", f"{name}, {bytes_text(free)} of {bytes_text(total)} free")
    if torch.backends.mps.is_available():
        yield Finding("mps", "note", "Apple GPU, memory shared with the host")
    yield Finding("cpu", "note", f"threads of torch: {settings.threads or torch.get_num_threads()}")
    for number, place in enumerate(places(settings)):
        yield from _chosen(place, is_slot=number > 0)
    for device in dict.fromkeys(slot_devices(settings.slots, settings.device)):
        try:
            memory.choose_devices(settings.model_copy(update={"device": device}))
        except LongtakeError as error:
            yield Finding("slot", "no", f"of LONGTAKE_SLOTS: {error.message}")


def _chosen(place: Settings, *, is_slot: bool) -> Iterator[Finding]:
    """Yields the devices that a process has, and how they compute.

    place: the settings of the process (see `places`).
    is_slot: True if only a slot of a server has these devices.
    """
    from longtake.models import compiled, memory

    devices = memory.choose_devices(place)
    device = devices[0]
    embedded, other = (str(memory.choose_dtype(place, device, embedded=flag)) for flag in (True, False))
    dtypes = f"{embedded.removeprefix('torch.')} for the embedded model, {other.removeprefix('torch.')} for others"
    setting = "a slot of LONGTAKE_SLOTS" if is_slot else f"LONGTAKE_DEVICE={place.device}"
    yield Finding("slot" if is_slot else "chosen", "ok", f"{_names(place)} ({setting}), {dtypes}")
    if len(devices) > 1:
        yield Finding("together", "note", TOGETHER)
    sharing = slots_per_gpu(place.device, place.slots)
    if sharing > 1 and device.type == "cuda":
        with memory.sharing_gpu(place):
            share = bytes_text(memory.device_bytes(device) or 0)
        yield Finding("shared", "note", f"{sharing} slots use it, and each plans for {share} of its memory")
    decision = compiled.decide(place, device)
    yield Finding("compiled blocks", "note", f"{'yes' if decision.is_on else 'no'}: {decision.reason}")


def _names(place: Settings) -> str:
    from longtake.models import memory

    return " and ".join(map(str, memory.choose_devices(place)))


def _of_places(name: str, texts: Mapping[str, str]) -> Iterator[Finding]:
    """Yields one note if all devices have the same text, otherwise one for each device.

    texts: a device's name -> the text about it.
    """
    if len({*texts.values()}) == 1:
        yield Finding(name, "note", next(iter(texts.values())))
        return
    for device, text in texts.items():
        yield Finding(f"{name} on {device}", "note", text)


def measured_on(settings: Settings) -> Iterator[Finding]:
    """Measures the device that the setting `device` names for some seconds."""
    with importing_models():
        from longtake.cli.measuring import measure
    for measured in measure(settings):
        yield Finding(measured.name, "note", measured.text)


def fitting_on(settings: Settings) -> Iterator[Finding]:
    """Yields for each published model how it runs on the devices that the settings name, by their memory."""
    with importing_models():
        from longtake.cli.fitting import PUBLISHED, fitting, in_host
        from longtake.models import compiled, fp8, memory

    texts: dict[str, dict[str, str]] = {model.name: {} for model in PUBLISHED}
    for place in places(settings):
        device, *others = memory.choose_devices(place)
        with memory.sharing_gpu(place):
            memories = memory.memories(device, place.slots)
        narrow = place.model_copy(update={"quantise": "fp8"})
        mode, _ = fp8.choose_mode(narrow, device, are_compiled=compiled.decide(place, device).is_on)
        if memories.device is None:
            shared = "shares the host's memory, so all weights and activations must fit there"
            yield Finding(str(device), "note", shared)
            dtype = memory.choose_dtype(place, device, embedded=False)
        for model in PUBLISHED:
            texts[model.name][_names(place)] = (
                in_host(model, memories.host, bytes_each=dtype.itemsize)
                if memories.device is None
                else fitting(model, mode, memories, are_several=bool(others))
            )
    for name, of_places in texts.items():
        yield from _of_places(name, of_places)


def model_findings(card: ModelCard, settings: Settings) -> Sequence[Finding]:
    """Returns whether a model is installed, and how it runs on the devices that the settings name."""
    lacking = missing(card, settings)
    if lacking and card.embedded:
        return [Finding(card.name, "no", f"its {', '.join(lacking)} are not where they should be", vital=True)]
    if lacking:
        return [Finding(card.name, "note", f"not installed: `longtake models pull {card.name}`")]
    found = checked(card.name, lambda: [*_installed(card, settings), *_vae_format(card, settings)], vital=card.embedded)
    return [*found, *_adapters(card, settings)]


def _adapters(card: ModelCard, settings: Settings) -> Iterator[Finding]:
    here = adapters(card, settings)
    lacking = [name for name, published in card.loras.items() if published is not None and name not in here]
    if card.loras:
        without = f"; without {', '.join(lacking)}: `longtake models pull {card.name}`" if lacking else ""
        yield Finding("its adapters", "note", f"{', '.join(here) or 'none'}{without}")


def _vae_format(card: ModelCard, settings: Settings) -> Iterator[Finding]:
    """Yields the memory format of a model's VAE, if it is chosen by measuring."""
    with importing_models():
        from longtake.models import memory, vae_format

    texts: dict[str, str] = {}
    for place in places(settings):
        device = memory.choose_device(place)
        if vae_format.is_measured(card, device):
            dtype = memory.part_dtype("vae", memory.choose_dtype(place, device, embedded=card.embedded))
            key = vae_format.FormatKey.of(card, dtype, device)
            texts[str(device)] = vae_format.described(key, place.compiled_dir)
    if texts:
        yield from _of_places("its VAE's memory format", texts)


def _installed(card: ModelCard, settings: Settings) -> Iterator[Finding]:
    """Yields the findings on an installed model: whether its files are right, and how it runs on each device."""
    from longtake.models.checks import check

    problems = [f"{part.part}: {part.problem}" for part in check(card.name, settings).parts if part.problem]
    if problems:
        yield Finding(card.name, "no", " ".join(problems), vital=card.embedded)
        return
    first, *slots = places(settings)
    yield _needs(card, first, card.name, vital=card.embedded)
    for place in slots:
        name = f"{card.name} on {_names(place)}"
        yield from checked(name, partial(_needs_there, card, place, name))


def _needs_there(card: ModelCard, place: Settings, name: str) -> Sequence[Finding]:
    return [_needs(card, place, name, vital=False)]


def _needs(card: ModelCard, place: Settings, name: str, *, vital: bool) -> Finding:
    """Returns how a model runs with the settings of a process (see `places`).

    Its state is `no` if the model needs more memory than is free, otherwise `ok`. `name` and `vital` are its other
    fields. Raises `NotSupported` if a device that works together with another one has no room for its copy.
    """
    with importing_models():
        from longtake.models import compiled, memory
        from longtake.models.parts import INSTALLED
        from longtake.models.placement import plan

    with memory.sharing_gpu(place):
        is_compiled = compiled.decide(place, memory.choose_device(place)).is_on
        placement, _ = plan(card, INSTALLED.open(card, place), place, are_compiled=is_compiled)
    device, free, host = placement.device, placement.room.free[0], host_memory()
    need, dtype = bytes_text(sum(placement.sizes.values())), str(placement.dtype).removeprefix("torch.")
    needs = f"needs {need} in {dtype}"
    if host is not None and sum(placement.sizes.values()) > host.available + (free or 0):
        return Finding(name, "no", f"{needs}; the machine has {bytes_text(host.available)} free", vital)
    if free is None:
        return Finding(name, "ok", f"{needs}, on {device}", vital)
    largest = bytes_text(max(placement.sizes.values()))
    is_whole = placement.offload == "none"
    fits = "everything stays on it" if is_whole else f"offload={placement.offload}, its largest part {largest}"
    return Finding(name, "ok", f"{needs}; {device} has {bytes_text(free)} free: {fits}", vital)
