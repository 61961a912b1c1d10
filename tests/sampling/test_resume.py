"""What is done of a take, on the disk."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from longtake.sampling.resume import NOTHING_KEPT, Kept

CPU = torch.device("cpu")


def test_a_step_is_done_once(tmp_path: Path) -> None:
    kept, made = Kept(tmp_path), torch.randn(2, 3).transpose(0, 1)
    first = kept.tensors("a", lambda: {"x": made}, CPU)
    again = kept.tensors("a", lambda: pytest.fail("done before"), CPU)
    assert torch.equal(first["x"], made)
    assert torch.equal(again["x"], made)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_step_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> Mapping[str, Tensor]:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        Kept(tmp_path).tensors("a", fail, CPU)
    assert not list(tmp_path.iterdir())


def test_a_file_that_was_not_finished_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "a.new").write_bytes(b"torn")
    assert Kept(tmp_path).tensors("a", lambda: {"x": torch.ones(1)}, CPU)["x"] == 1


def test_a_prompt_is_written_once(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    assert kept.prompt(lambda: ("a boat", None)) == ("a boat", None)
    assert kept.prompt(lambda: pytest.fail("done before")) == ("a boat", None)


def test_without_a_folder_nothing_is_kept() -> None:
    values = iter((1.0, 2.0))
    made = [NOTHING_KEPT.tensors("a", lambda: {"x": torch.tensor(next(values))}, CPU)["x"] for _ in range(2)]
    assert made == [1.0, 2.0]
    assert [NOTHING_KEPT.prompt(lambda: (str(next(iter((1,)))), None)) for _ in range(1)] == [("1", None)]
