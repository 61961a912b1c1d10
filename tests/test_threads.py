"""How many threads compute on a CPU, and how they wait."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import longtake
from longtake.threads import prepare_threads

QUICK: dict[str, dict[str, Any]] = {
    "ltxv-tiny": {"new_frames": 8},
    "ltx2-tiny": {"new_frames": 8, "num_inference_steps": 8, "use_multiscale": False, "acceleration": "full"},
}
CLIP = Path(__file__).parents[1] / "examples" / "clip.mp4"


def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Runs a Python process. OpenMP then writes its settings to standard error when torch loads it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    environment |= {"OMP_DISPLAY_ENV": "TRUE"} | variables
    return subprocess.run([sys.executable, *arguments], env=environment, text=True, capture_output=True, check=False)


@pytest.fixture
def same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(sys.platform != "linux", reason="only GNU's OpenMP, which torch has on Linux, tells its settings")
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("-m", "longtake.worker.main"), id="worker"),
        pytest.param(("-c", "import longtake; longtake.load('ltxv-tiny').extend('gone.mp4', 'out.mp4')"), id="library"),
    ],
)
def test_threads_sleep_while_they_wait(arguments: tuple[str, ...]) -> None:
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in run(*arguments).stderr


def test_a_variable_of_the_user_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.delenv("MKL_CBWR", raising=False)
    prepare_threads()
    assert (os.environ["OMP_WAIT_POLICY"], os.environ["MKL_CBWR"]) == ("ACTIVE", "AUTO,STRICT")


def test_a_setting_chooses_the_number() -> None:
    assert "1 threads of torch" in run("-m", "longtake", "doctor", LONGTAKE_THREADS="1").stdout


@pytest.mark.parametrize("model", ["ltxv-tiny", "ltx2-tiny"])
def test_results_do_not_depend_on_the_number(
    model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, same_threads: None
) -> None:
    files = []
    for number in (1, 2):
        monkeypatch.setenv("LONGTAKE_THREADS", str(number))
        with longtake.load(model) as loaded:
            result = loaded.extend(CLIP, tmp_path / f"{number}.mov", prompt="x", seed=1, **QUICK[model])
        assert torch.get_num_threads() == number
        files.append(result.path.read_bytes())
    assert files[0] == files[1]
