"""What the command line imports, how quickly it starts, and how it ends if it is interrupted meanwhile."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from longtake.errors import StoppedBySignal

HEAVY = ("torch", "diffusers", "transformers", "av", "numpy", "pydantic", "sqlalchemy")


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


def test_the_server_imports_nothing_heavy_but_pydantic_and_the_database() -> None:
    assert loaded_after("import longtake.service.server, longtake.database.migrate") == ["pydantic", "sqlalchemy"]


def test_a_worker_process_imports_no_libraries_of_the_models_or_the_database_before_it_needs_them() -> None:
    assert loaded_after("import longtake.worker.main") == ["numpy", "pydantic"]


@pytest.mark.parametrize("args", [["--help"], ["--version"]])
def test_help_and_version_take_less_than_a_second_of_processor_time(args: list[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "longtake", *args], check=True, capture_output=True, timeout=300)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_modules_are_imported_ends_with_one_line(tmp_path: Path, number: signal.Signals) -> None:
    # A slow library, which takes any exception for a missing part of itself
    slow = (
        "import os, time\nos.write(1, b'.')\ntry:\n    time.sleep(60)\nexcept BaseException:\n    raise ImportError\n"
    )
    (tmp_path / "typer.py").write_text(slow)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    with subprocess.Popen(
        [sys.executable, "-m", "longtake", "doctor"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"."
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.decode()) == (130, f"Error: {StoppedBySignal(number)}\n")
