"""What the command line writes to a reader that leaves early, and in an encoding that lacks a character."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")
"""A device that behaves as a file on a full disk."""


def process(*args: str | Path, **environment: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "longtake", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )


@pytest.mark.parametrize(
    ("args", "status"),
    [(["models", "list"], 0), (["--help"], 0), (["models", "check", "{clips}/other.safetensors", "--json"], 1)],
    ids=["rows", "help", "a check that fails"],
)
def test_a_reader_that_leaves_does_not_change_the_exit_status(args: list[str], status: int, clips: Path) -> None:
    running = process(*(arg.format(clips=clips) for arg in args))
    assert running.stdout is not None
    running.stdout.close()
    running.stdout = None
    _, errors = running.communicate(timeout=300)
    assert (running.returncode, errors) == (status, b"")


def test_a_reader_of_errors_that_leaves_does_not_change_the_exit_status(clips: Path) -> None:
    running = process("plan", clips / "nowhere.mp4", "--prompt", "sea")
    assert running.stderr is not None
    running.stderr.close()
    assert running.wait(timeout=300) == 2


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("args", [["models", "list", "--json"], ["--version"]])
def test_text_that_standard_output_cannot_take_is_an_error_that_names_it(args: list[str]) -> None:
    with FULL.open("wb") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "longtake", *args], stdout=full, stderr=subprocess.PIPE, timeout=300
        )
    assert ran.returncode == 1
    assert ran.stderr == b"Error: Standard output cannot be written: No space left on device.\n"


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_sentence_that_standard_error_cannot_take_does_not_change_the_exit_status() -> None:
    with FULL.open("wb") as full:
        command = [sys.executable, "-m", "longtake", "models", "pull", "x"]
        assert subprocess.run(command, stderr=full, timeout=300).returncode == 2


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii", "utf-8"])
def test_a_name_beyond_the_encoding_is_printed_as_escapes(encoding: str, tmp_path: Path) -> None:
    name = "日本é\udcff😀"
    ran = [process("models", "check", tmp_path / name, *more, PYTHONIOENCODING=encoding) for more in ([], ["--json"])]
    (_, sentence), (document, _) = (running.communicate(timeout=300) for running in ran)
    assert [running.returncode for running in ran] == [2, 2]
    assert b"codec" not in sentence
    message = json.loads(document.decode(encoding))["detail"][0]["msg"]
    assert message.split("/")[-1].startswith(r"日本é\udcff😀"), "an escape in place of what is no valid Unicode"


def test_rows_are_printed_in_the_encoding_of_the_terminal(tmp_path: Path, clips: Path) -> None:
    copy = tmp_path / "日é.safetensors"
    copy.write_bytes((clips / "other.safetensors").read_bytes())
    running = process("models", "check", copy, PYTHONIOENCODING="latin-1")
    shown, errors = running.communicate(timeout=300)
    assert (running.returncode, errors) == (1, b"")
    assert "\\u65e5é.safetensors".encode("latin-1") in shown
