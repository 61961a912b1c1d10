"""The checks of `longtake doctor`: packages, devices, models, codecs, the sandboxed process, folders and settings."""

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_args

from longtake import system
from longtake.cli.console import Rows, bytes_text
from longtake.errors import LongtakeError
from longtake.host_memory import host_memory
from longtake.imports import INSTALL_TORCH, importing_models
from longtake.media.formats import OutputType, output_format
from longtake.models.registry import CARDS, ModelCard, adapters, missing
from longtake.settings import NO_HOME, PREFIX, Settings, unknown_settings
from longtake.temporary import PLACE
from longtake.threads import prepare_threads
from longtake.worker.machine import free_bytes

State = Literal["ok", "no", "note"]

TORCH_PACKAGES = (
    *("torch", "diffusers", "transformers", "accelerate"),
    *("opencv-python-headless", "protobuf", "sentencepiece"),
)
OTHER_PACKAGES = ("av", "numpy", "pillow", "pydantic", "httpx", "huggingface-hub", "safetensors")

TEST_SIZE = (64, 48)
"""Width and height in pixels of the picture that each codec encodes as a test."""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    name: what was checked.
    state: `ok`, `no` (it does not work, and neither does anything that needs it) or `note` (information only).
    text: the details for the user.
    vital: True if even the small models that are part of the package cannot run without what was checked.
    """

    name: str
    state: State
    text: str
    vital: bool = False


@dataclass(frozen=True)
class Report:
    """All findings: section title -> the findings of the section."""

    sections: dict[str, Sequence[Finding]]

    @property
    def runs(self) -> bool:
        """True if every small model in the package can make a video on this machine."""
        return not any(f.vital and f.state == "no" for findings in self.sections.values() for f in findings)

    def to_json(self) -> dict[str, Any]:
        """Returns the document that `longtake doctor --json` prints."""
        sections = {title: [asdict(finding) for finding in findings] for title, findings in self.sections.items()}
        return {"runs": self.runs, "sections": sections}

    def rows(self) -> list[tuple[str, Rows]]:
        """Returns (title, rows) of each section. A row is (what was checked, the result as text), for a terminal."""
        marks = {"ok": "ok  ", "no": "NO  ", "note": "    "}
        return [
            (title, [(finding.name, marks[finding.state] + finding.text) for finding in findings])
            for title, findings in self.sections.items()
        ]


def examine(settings: Settings, *, measures: bool = False) -> Report:
    """Runs all checks and returns their findings. Some frames are encoded, and one child process is started.

    measures: True also measures the device for some seconds. Otherwise no weights are loaded.
    """
    measured = {"Measured": _checked("measuring", lambda: list(_measured(settings)), vital=False)} if measures else {}
    return Report(
        {
            "Machine": list(_machine()),
            "Device": _checked("device", lambda: list(_device(settings)), vital=True),
            **measured,
            "Models that fit": _checked("models", lambda: list(_fitting(settings)), vital=False),
            "Models": [finding for card in CARDS.values() for finding in _model(card, settings)],
            "Files that can be written": [finding for kind in get_args(OutputType) for finding in _codec(kind)],
            "Reading sources": _checked("child process", lambda: list(_sandbox()), vital=True),
            "Folders": list(_folders(settings)),
            "Settings": list(_settings(settings)),
        }
    )


def _checked(name: str, check: Callable[[], Sequence[Finding]], *, vital: bool = False) -> Sequence[Finding]:
    """Returns the findings of `check()`. If it raises an error, returns one finding that reports the error instead.

    So an error in one check does not prevent the other checks. The finding about an error has the state `no`. `name`
    and `vital` are its other fields (see `Finding`).
    """
    try:
        return check()
    except Exception as error:
        text = error.message if isinstance(error, LongtakeError) else f"{type(error).__name__}: {error}"
        return [Finding(name, "no", text, vital)]


def _machine() -> Iterator[Finding]:
    yield Finding(
        "Python", "ok", f"{platform.python_version()} on {platform.platform(terse=True)} {platform.machine()}"
    )
    if platform.system() not in system.RUN_ON:
        yield Finding("system", "note", f"written for {platform.system()}, but its tests have run on Linux only")
    memory = host_memory()
    memory_text = (
        "" if memory is None else f", {bytes_text(memory.available)} of {bytes_text(memory.total)} memory free"
    )
    yield Finding("processor", "note", f"{os.cpu_count()} threads{memory_text}")
    for group in (OTHER_PACKAGES, TORCH_PACKAGES):
        found = {name: _version(name) for name in group}
        lacking = [name for name, installed in found.items() if installed is None]
        text = ", ".join(f"{name} {installed}" for name, installed in found.items() if installed)
        if lacking:
            text = f"{' and '.join(lacking)} not installed: {INSTALL_TORCH}"
        yield Finding("packages", "no" if lacking else "ok", text, vital=True)


TOGETHER = (
    "the devices share out the predictions of a step: up to 4 of LTX-2.3 and 3 of LTX-Video dev; a distilled "
    "LTX-Video model needs 1, so only the first device works"
)
"""The text for the user that says what several devices do together."""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device(settings: Settings) -> Iterator[Finding]:
    prepare_threads()
    with importing_models():
        import torch

        from longtake.models import compiled, memory

    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        yield Finding(f"cuda:{index}", "note", f"{name}, {bytes_text(free)} of {bytes_text(total)} free")
    if torch.backends.mps.is_available():
        yield Finding("mps", "note", "Apple GPU, memory shared with the host")
    yield Finding("cpu", "note", f"threads of torch: {settings.threads or torch.get_num_threads()}")
    devices = memory.choose_devices(settings)
    device = devices[0]
    embedded, other = (str(memory.choose_dtype(settings, device, embedded=flag)) for flag in (True, False))
    dtypes = f"{embedded.removeprefix('torch.')} for the embedded model, {other.removeprefix('torch.')} for others"
    names = " and ".join(map(str, devices))
    yield Finding("chosen", "ok", f"{names} (LONGTAKE_DEVICE={settings.device}), {dtypes}")
    if len(devices) > 1:
        yield Finding("together", "note", TOGETHER)
    decision = compiled.decide(settings, device)
    yield Finding("compiled blocks", "note", f"{'yes' if decision.is_on else 'no'}: {decision.reason}")


def _measured(settings: Settings) -> Iterator[Finding]:
    with importing_models():
        from longtake.cli.measuring import measure
    for measured in measure(settings):
        yield Finding(measured.name, "note", measured.text)


def _fitting(settings: Settings) -> Iterator[Finding]:
    """Yields for each published model how it runs on the device that the setting `device` names, by its memory."""
    with importing_models():
        from longtake.cli.fitting import PUBLISHED, fitting, in_host
        from longtake.models import compiled, fp8, memory

    device, *others = memory.choose_devices(settings)
    memories = memory.memories(device, settings.slots)
    if memories.device is None:
        yield Finding(str(device), "note", "shares the host's memory, so all weights and activations must fit there")
        dtype = memory.choose_dtype(settings, device, embedded=False)
        for model in PUBLISHED:
            yield Finding(model.name, "note", in_host(model, memories.host, bytes_each=dtype.itemsize))
        return
    narrow = settings.model_copy(update={"quantise": "fp8"})
    mode, _ = fp8.choose_mode(narrow, device, are_compiled=compiled.decide(settings, device).is_on)
    for model in PUBLISHED:
        yield Finding(model.name, "note", fitting(model, mode, memories, are_several=bool(others)))


def _model(card: ModelCard, settings: Settings) -> Sequence[Finding]:
    lacking = missing(card, settings)
    if lacking and card.embedded:
        return [Finding(card.name, "no", f"its {', '.join(lacking)} are not where they should be", vital=True)]
    if lacking:
        return [Finding(card.name, "note", f"not installed: `longtake models pull {card.name}`")]
    found = _checked(card.name, lambda: [_installed(card, settings), *_vae_format(card, settings)], vital=card.embedded)
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

    device = memory.choose_device(settings)
    if vae_format.is_measured(card, device):
        dtype = memory.part_dtype("vae", memory.choose_dtype(settings, device, embedded=card.embedded))
        key = vae_format.FormatKey.of(card, dtype, device)
        yield Finding("its VAE's memory format", "note", vae_format.described(key, settings.compiled_dir))


def _installed(card: ModelCard, settings: Settings) -> Finding:
    """Returns the finding on an installed model.

    Its state is `no` if one of the model's files is wrong, or if the model needs more memory than is free. Otherwise it
    is `ok`.
    """
    with importing_models():
        import torch

        from longtake.models import compiled, memory
        from longtake.models.parts import INSTALLED, choose_mode, needs_short_text, part_bytes
        from longtake.models.replicas import check_room
    from longtake.models.checks import check

    report = check(card.name, settings)
    problems = [f"{part.part}: {part.problem}" for part in report.parts if part.problem]
    if problems:
        return Finding(card.name, "no", " ".join(problems), vital=card.embedded)
    device, *others = memory.choose_devices(settings)
    dtype = memory.choose_dtype(settings, device, embedded=card.embedded)
    opened, total, free = INSTALLED.open(card, settings), memory.device_bytes(device), memory.free_bytes(device)
    is_short = needs_short_text(settings, part_bytes(opened, dtype, "none"), total)
    sizes_in = partial(part_bytes, opened, dtype, has_short_text=is_short)
    mode, _ = choose_mode(settings, device, sizes_in, are_compiled=compiled.decide(settings, device).is_on)
    sizes = sizes_in(mode)
    host = host_memory()
    copies = 0 if total is not None else len(others) * sizes["transformer"]  # in the same memory
    need, largest = sum(sizes.values()) + copies, max(sizes.values())
    needs = f"needs {bytes_text(need)} in {str(dtype).removeprefix('torch.')}"
    if host is not None and need > host.available + (free or 0):
        return Finding(
            card.name, "no", f"{needs}; the machine has {bytes_text(host.available)} free", vital=card.embedded
        )
    if free is None or device == torch.device("cpu"):
        return Finding(card.name, "ok", f"{needs}, on {device}", vital=card.embedded)
    offload = memory.choose_offload(settings.offload, sizes, total, free)
    streamed = memory.streamed_parts(settings.offload, offload, sizes, total)
    check_room(others, sizes["transformer"], is_streamed="transformer" in streamed)
    fits = (
        "everything stays on it" if offload == "none" else f"offload={offload}, its largest part {bytes_text(largest)}"
    )
    return Finding(card.name, "ok", f"{needs}; {device} has {bytes_text(free)} free: {fits}", vital=card.embedded)


def _codec(kind: OutputType) -> Sequence[Finding]:
    """Returns the finding on whether files of this type can be written.

    As a test, one picture is encoded, with sound if files of this type can contain sound.
    """
    format = output_format(kind, "medium", "fast")
    vital = format.suffix == ".mp4"

    def encode() -> Sequence[Finding]:
        import numpy as np

        from longtake.media.encode import Encoder

        with tempfile.TemporaryDirectory(prefix="longtake-") as folder:
            path = Path(folder) / f"test{format.suffix}"
            with Encoder(path, format, *TEST_SIZE, Fraction(24)) as encoder:
                encoder.write_sound(np.zeros((2, 2000), np.float32))
                encoder.write(np.zeros((1, TEST_SIZE[1], TEST_SIZE[0], 3), np.uint8))
            sound = f" and {format.sound.codec}" if format.sound else ", silent"
            return [Finding(format.suffix, "ok", f"{format.codec}{sound}", vital)]

    return _checked(format.suffix, encode, vital=vital)


_SANDBOX_TEST = """
import json, mmap, os, socket, subprocess, sys
from longtake.media.limits import Limits
from longtake.media.sandbox import confine
confine(Limits())
def fails(action):
    try:
        action()
    except OSError:
        return True
    return False
print(json.dumps({
    "memory": fails(lambda: mmap.mmap(-1, Limits().memory_bytes)),
    "files": fails(lambda: open(sys.executable, "rb")),
    "network": fails(lambda: socket.socket()),
    "programs": fails(lambda: subprocess.run([sys.executable, "-c", ""])),
    "root": hasattr(os, "getuid") and os.getuid() == 0,
}))
"""


def _sandbox() -> Iterator[Finding]:
    """Yields the findings on the sandboxed process that reads source videos: whether it starts, and whether this system
    enforces its limits, such as the one on memory.

    To find out, a child process with the same limits is started, which tries to exceed them. If this child fails, the
    only finding is that it failed.
    """
    import json

    from longtake.media import confinement
    from longtake.media.limits import Limits

    child = subprocess.run([sys.executable, "-P", "-c", _SANDBOX_TEST], capture_output=True, text=True, timeout=60)
    if child.returncode:
        last = (child.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        yield Finding("child process", "no", f"it ended with status {child.returncode}: {last}", vital=True)
        return
    stands = json.loads(child.stdout)
    yield Finding("child process", "ok", "sources are read in a separate process, each step within a time limit", True)
    yield Finding("means", "note", str(confinement.support()))
    yield _limit("memory", stands["memory"], f"at most {bytes_text(Limits().memory_bytes)}")
    yield _limit("files", stands["files"], "that process can open none")
    yield _limit("network", stands["network"], "that process can use none")
    yield _limit("programs", stands["programs"], "that process can start none")
    if stands["root"]:
        yield Finding("rights", "note", "that process stays root, without root's capabilities")
    else:
        yield Finding("rights", "ok", "that process does not run as root")


def _limit(name: str, is_enforced: bool, text: str) -> Finding:
    """Returns the finding on one limit of the process that reads source videos.

    name: what is limited, such as `memory`.
    is_enforced: True if this system enforces the limit. The finding is then `ok`, otherwise it is a note.
    text: the text of the finding if the limit is enforced. If it is not, the text is a warning instead.
    """
    missing = f"not limited: {platform.system()} does not enforce it here, so extend only files that you trust"
    return Finding(name, "ok" if is_enforced else "note", text if is_enforced else missing)


def _folders(settings: Settings) -> Iterator[Finding]:
    places = {"models": settings.models_dir, "LoRAs": settings.loras_dir, "temporary": settings.data_dir / PLACE}
    for name, folder in places.items():
        if NO_HOME in folder.parents:
            yield Finding(name, "note", "no folder, because this user has no home folder; LONGTAKE_DATA_DIR names one")
            continue
        existing = next(place for place in (folder, *folder.parents) if place.exists())
        try:
            with tempfile.TemporaryFile(dir=existing):
                pass
            absent = "" if existing == folder else " (made when needed)"
            free = bytes_text(free_bytes(existing) or 0)
            yield Finding(name, "ok", f"{folder}{absent}, {free} free", vital=name == "temporary")
        except OSError as error:
            text = f"{folder} cannot be written: {error.strerror}"
            yield Finding(name, "no", text, vital=name == "temporary")


def _settings(settings: Settings) -> Iterator[Finding]:
    """Yields a finding for each setting, with its value, and for each LONGTAKE_* environment variable that names no
    setting.

    Secrets are masked. A value that does not come from the defaults is marked `(set)`.
    """
    for name, value in settings.model_dump(mode="json").items():
        mark = " (set)" if name in settings.model_fields_set else ""
        yield Finding(f"{PREFIX}{name.upper()}", "note", f"{masked(value)}{mark}")
    for name, text in unknown_settings().items():
        yield Finding(name, "no", text)


def masked(value: Any) -> str:
    """Returns a setting's value as text, `-` for None. In a URL, user name and password are replaced by `***`."""
    text = "-" if value is None else str(value)
    scheme, slashes, rest = text.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{slashes}***@{host.rpartition('@')[2]}{slash}{path}" if "@" in host else text
