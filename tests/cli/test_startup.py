"""What the command line imports, and how quickly it starts."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "diffusers", "transformers", "av", "numpy", "pydantic")


def loaded_after(code: str) -> list[str]:
    """Returns the heavy modules that a new process has imported after running the code."""
    script = f"import sys\n{code}\nprint([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
    found: list[str] = json.loads(done.stderr.splitlines()[-1].replace("'", '"'))
    return found


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    assert loaded_after("import longtake.cli") == []


def test_help_imports_nothing_heavy() -> None:
    assert loaded_after("from longtake.cli import app\napp(['--help'], standalone_mode=False)") == []


def test_a_plan_imports_no_torch_and_no_codecs(clips: Path) -> None:
    args = ["plan", str(clips / "clip.mp4"), "--prompt", "sea"]
    loaded = loaded_after(f"from longtake.cli import app\napp({args!r}, standalone_mode=False)")
    assert not {"torch", "diffusers", "transformers", "av"} & set(loaded)


def test_the_server_imports_nothing_heavy_but_pydantic() -> None:
    assert loaded_after("import longtake.service.server, longtake.database.migrate") == ["pydantic"]


@pytest.mark.parametrize("args", [["--help"], ["--version"]])
def test_help_and_version_take_less_than_a_second_of_processor_time(args: list[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "longtake", *args], check=True, capture_output=True, timeout=300)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1
