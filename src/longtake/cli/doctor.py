"""The report of `longtake doctor`, and its checks of packages, codecs, the sandboxed process, folders and settings."""

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

from longtake import system
from longtake.cli.console import Rows, bytes_text
from longtake.cli.doctor_device import device_findings, fitting_on, measured_on, model_findings
from longtake.cli.findings import Finding, checked
from longtake.host_memory import host_memory
from longtake.imports import INSTALL_TORCH
from longtake.media.formats import OutputType, output_format
from longtake.models.registry import CARDS
from longtake.settings import NO_HOME, PREFIX, Settings, unknown_settings
from longtake.temporary import PLACE
from longtake.worker.machine import free_bytes

TORCH_PACKAGES = (
    *("torch", "diffusers", "transformers", "accelerate"),
    *("opencv-python-headless", "protobuf", "sentencepiece"),
)
OTHER_PACKAGES = ("av", "numpy", "pillow", "pydantic", "httpx", "huggingface-hub", "safetensors")

TEST_SIZE = (64, 48)
"""Width and height in pixels of the picture that each codec encodes as a test."""


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
    measured = {"Measured": checked("measuring", lambda: list(measured_on(settings)))} if measures else {}
    return Report(
        {
            "Machine": list(_machine()),
            "Device": checked("device", lambda: list(device_findings(settings)), vital=True),
            **measured,
            "Models that fit": checked("models", lambda: list(fitting_on(settings))),
            "Models": [finding for card in CARDS.values() for finding in model_findings(card, settings)],
            "Files that can be written": [finding for kind in get_args(OutputType) for finding in _codec(kind)],
            "Reading sources": checked("child process", lambda: list(_sandbox()), vital=True),
            "Folders": list(_folders(settings)),
            "Settings": list(_settings(settings)),
        }
    )


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


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


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

    return checked(format.suffix, encode, vital=vital)


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
