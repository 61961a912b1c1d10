"""Figures of long continuations: the truth is perfect, and a lost, split or wrong object is seen."""

from pathlib import Path

import pytest
import torch

from recipes.tiny import lasting, unpack
from recipes.tiny.lasting import CONTEXT, is_one_object
from recipes.tiny.measure import Truth


@pytest.fixture(scope="module")
def found() -> list[Truth]:
    torch.set_num_threads(1)
    return [*lasting.straight(1), *lasting.walls(1)]


def test_the_truth_is_perfect(found: list[Truth]) -> None:
    figures = lasting.figures(found, torch.stack([case.clip for case in found]))
    assert figures["px at 48"] < 1
    assert figures["contrast at 48"] == pytest.approx(1)
    assert figures["IoU at 48"] == pytest.approx(1)
    assert figures["one object at 96"] == 1
    assert figures["dB over freezing 1-16"] > 50


def test_a_lost_object_is_seen(found: list[Truth]) -> None:
    lost = torch.stack([torch.cat([c.clip[:, :CONTEXT], c.background[:, CONTEXT:]], dim=1) for c in found])
    figures = lasting.figures(found, lost)
    assert figures["contrast at 48"] < 0.1
    assert figures["IoU at 48"] == 0
    assert figures["one object at 96"] == 0


def test_the_walls_are_met_in_the_new_frames(found: list[Truth]) -> None:
    turns = (found[1].path[2:] - 2 * found[1].path[1:-1] + found[1].path[:-2]).norm(dim=1) > 0.05
    assert bool(turns[CONTEXT : CONTEXT + lasting.MIDDLE].any())
    assert float((found[0].path[2:] - 2 * found[0].path[1:-1] + found[0].path[:-2]).norm(dim=1).max()) < 1e-3


def test_one_object_is_whole_and_of_its_size() -> None:
    true = torch.zeros(32, 32)
    true[10:20, 10:20] = 1
    two, small = torch.zeros(32, 32), torch.zeros(32, 32)
    two[2:12, 2:12] = two[18:28, 18:28] = 1
    small[10:16, 10:16] = 1
    moved = true.roll(8, 1)
    assert is_one_object(moved, true)
    assert not is_one_object(two, true)
    assert not is_one_object(small, true)
    assert not is_one_object(torch.zeros(32, 32), true)


def test_unpacked_weights_are_read_as_a_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    one, other = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    unpack.put(tmp_path / "named.pt", {"part": one})
    unpack.put(tmp_path / "plain.pt", {"": one})
    assert set(torch.load(tmp_path / "named.pt")["averaged"]) == {"part.weight", "part.bias"}
    other.load_state_dict(torch.load(tmp_path / "plain.pt")["averaged"])
    assert other.weight.equal(one.weight)
