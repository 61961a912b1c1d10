"""Finished windows and prompts of a plan, saved to disk."""

import errno
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from longtake.sampling.resume import NO_RESUME, Resume

CPU = torch.device("cpu")


def test_a_saved_result_is_not_made_again(tmp_path: Path) -> None:
    resume, made = Resume(tmp_path), torch.randn(2, 3).transpose(0, 1)
    first = resume.tensors("a", lambda: {"x": made}, CPU)
    again = resume.tensors("a", lambda: pytest.fail("done before"), CPU)
    assert torch.equal(first["x"], made)
    assert torch.equal(again["x"], made)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_failure_saves_nothing(tmp_path: Path) -> None:
    def fail() -> Mapping[str, Tensor]:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        Resume(tmp_path).tensors("a", fail, CPU)
    assert not list(tmp_path.iterdir())


def test_a_file_that_was_not_finished_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
        path.write_bytes(b"torn")
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr("longtake.sampling.resume.save_file", fail)
        with pytest.raises(OSError, match="no space"):
            Resume(tmp_path).tensors("a", lambda: {"x": torch.zeros(1)}, CPU)
    assert not list(tmp_path.iterdir())
    assert Resume(tmp_path).tensors("a", lambda: {"x": torch.ones(1)}, CPU)["x"] == 1


def test_a_saved_prompt_is_not_made_again(tmp_path: Path) -> None:
    resume = Resume(tmp_path)
    assert resume.prompt(lambda: ("a boat", None)) == ("a boat", None)
    assert resume.prompt(lambda: pytest.fail("done before")) == ("a boat", None)


@pytest.mark.parametrize("name", ["low_memory", "sparing"])
def test_a_run_that_ran_out_of_memory_is_remembered_under_both_names(tmp_path: Path, name: str) -> None:
    """An attempt before an upgrade wrote the second name. The next attempt must give the same bits."""
    resume = Resume(tmp_path)
    assert not resume.is_low_memory
    (tmp_path / name).touch()
    assert resume.is_low_memory


def test_windows_that_were_computed_otherwise_are_found(tmp_path: Path) -> None:
    def window(number: int) -> dict[str, Tensor]:
        return {"x": torch.full((1,), float(number))}

    first, second = Resume(tmp_path, "compiled"), Resume(tmp_path, "not compiled")
    first.prompt(lambda: ("a boat", None))
    assert second.other_arithmetic() is None, "no window was saved"
    for number in range(2):
        first.tensors(f"window-{number}", partial(window, number), CPU)
    assert first.other_arithmetic() is None
    assert second.other_arithmetic() == "compiled"
    second.tensors("window-2", partial(window, 2), CPU)
    assert first.other_arithmetic() == "not compiled", "the run between computed otherwise"
    assert NO_RESUME.other_arithmetic() is None


def test_a_window_of_an_older_version_does_not_say_how_it_was_computed(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "window-000.safetensors")
    assert Resume(tmp_path, "compiled").other_arithmetic() is None


def test_without_a_folder_nothing_is_saved() -> None:
    values = iter((1.0, 2.0))
    made = [NO_RESUME.tensors("a", lambda: {"x": torch.tensor(next(values))}, CPU)["x"] for _ in range(2)]
    assert made == [1.0, 2.0]
    prompts = iter((("a boat", None), ("a ship", "a note")))
    assert [NO_RESUME.prompt(lambda: next(prompts)) for _ in range(2)] == [("a boat", None), ("a ship", "a note")]


def test_a_full_disk_is_this_machine_s_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Safetensors reports it with an error of its own."""

    def fill(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("longtake.sampling.resume.save_file", fill)
    with pytest.raises(OSError, match="No space") as raised:
        Resume(tmp_path).tensors("a", lambda: {"x": torch.zeros(1)}, CPU)
    assert raised.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())


def test_a_plan_that_ran_out_of_memory_is_remembered(tmp_path: Path) -> None:
    assert not Resume(tmp_path).is_low_memory
    Resume(tmp_path).set_low_memory()
    assert Resume(tmp_path).is_low_memory
    Resume().set_low_memory()
    assert not Resume().is_low_memory
