"""Makes a folder that measures the models on a machine with nothing but Python, torch and transformers.

    python -m bench.gpu.bundle FOLDER [--python 3.12]

The folder has the package without its embedded weights, this benchmark, the numeric oracle, the wheels that such a
machine lacks, and `run.sh`, the command to run there. `--python` is the machine's version of Python. The machine needs
no network.
"""

import argparse
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from bench.oracle.case import oracle_folder

ROOT = Path(__file__).parents[2]

PACKAGES = (
    *("accelerate", "av", "cachetools", "diffusers", "pillow", "psutil", "pydantic-settings", "python-dotenv"),
    *("annotated-types", "pydantic", "pydantic-core", "typing-inspection"),
    *("anyio", "certifi", "h11", "httpcore", "httpx", "idna"),
    *("charset-normalizer", "requests", "urllib3"),
    *("importlib-metadata", "zipp"),
)
"""The packages that the benchmark imports and that torch and transformers do not bring, or bring in some versions only.

Line by line: those of longtake, those of pydantic and of httpx, and those of diffusers alone.
"""

PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
"""The platforms whose wheels run on the machine."""

LARGEST_BYTES = 60 * 10**6
"""The largest size of the folder."""

LEFT_OUT = shutil.ignore_patterns("*.safetensors", "__pycache__", "static")
"""Name patterns of what is not copied: weights, compiled modules, and the files of the server's pages."""

ARCHIVE = "longtake.tar.xz"
"""The name of the archive of all sources and of the oracle, which `run.sh` unpacks."""


def copy_sources(folder: Path) -> None:
    """Copies the package without weights, but with the tokenizers, the benchmark, and the numeric oracle into a new
    folder."""
    shutil.copytree(ROOT / "src" / "longtake", folder / "src" / "longtake", ignore=LEFT_OUT)
    shutil.copytree(ROOT / "bench", folder / "bench", ignore=LEFT_OUT)
    shutil.copytree(oracle_folder(), folder / "oracle")
    for path in (folder / "oracle" / "weights").glob("*.safetensors"):
        halve(path)
    shutil.copy(Path(__file__).parent / "run.sh", folder / "run.sh")


def halve(path: Path) -> None:
    """Writes the tensors of a file again, those in bfloat16 that have the same values there."""
    tensors = load_file(path)
    for name, value in tensors.items():
        if torch.equal(value.bfloat16().float(), value):
            tensors[name] = value.bfloat16()
    save_file(tensors, path)


def pack(folder: Path) -> None:
    """Puts the folders in a folder into one archive in it, which is a third as large, and removes them."""
    parts = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    with tarfile.open(folder / ARCHIVE, "w:xz") as archive:
        for part in parts:
            archive.add(part, part.name)
    for part in parts:
        shutil.rmtree(part)


def download_wheels(folder: Path, python: str) -> None:
    """Downloads the wheels of PACKAGES in the versions of constraints.txt.

    python: the version of Python on the machine, such as 3.12.
    """
    platforms = [option for platform in PLATFORMS for option in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", python, "--implementation", "cp", *platforms]
    command += ["--constraint", str(ROOT / "constraints.txt"), "--dest", str(folder / "wheels")]
    subprocess.run([*command, *PACKAGES], check=True)


def num_bytes(folder: Path) -> int:
    """Returns the size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes the folder. Exits with a sentence if it is too large."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu.bundle", description="Makes the folder for a GPU machine."
    )
    parser.add_argument("folder", type=Path, help="the folder, which is replaced if it exists")
    parser.add_argument("--python", default="3.12", help="the version of Python on the machine (3.12)")
    chosen = parser.parse_args(arguments)
    folder: Path = chosen.folder
    shutil.rmtree(folder, ignore_errors=True)
    copy_sources(folder)
    pack(folder)
    download_wheels(folder, chosen.python)
    size = num_bytes(folder)
    if size > LARGEST_BYTES:
        sys.exit(f"{folder} has {size / 1e6:.1f} MB; at most {LARGEST_BYTES / 1e6:.0f} MB are allowed")
    print(f"{folder}: {size / 1e6:.1f} MB. On the machine: bash {folder.name}/run.sh levers --out levers.json")


if __name__ == "__main__":
    main()
