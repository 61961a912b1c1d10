"""Layers are on a GPU only while they run, and what is added to their groups is there with them."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from longtake.models import memory
from longtake.models.applying import applied
from longtake.models.budget import Memories
from longtake.models.loras import Adapter, Pair
from longtake.models.merging import Originals
from longtake.models.streaming import group_of, is_streamed, stream
from tests.models import small
from tests.models.adapters import Trace, low_rank_pair
from tests.simulated_gpu import Gpus, can_simulate, simulated_gpus

GPU = torch.device("cuda:1")


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpus]:
    if not can_simulate():
        pytest.skip("GPUs are simulated by torch for CPUs alone")
    with simulated_gpus(monkeypatch) as made, memory.current_gpu(GPU):
        yield made


def _adapter(transformer: nn.Module) -> Adapter:
    """Returns an adapter for layers of two blocks, and for one outside the blocks."""
    names = ("transformer_blocks.0.attn1.to_q", "transformer_blocks.1.ff.net.2", "time_embed.linear")
    shapes: dict[str, Any] = {name: transformer.get_submodule(name).weight.shape for name in names}
    return Adapter("a", {name: Pair(*low_rank_pair(2, out, into)) for name, (out, into) in shapes.items()})


def _copies(gpus: Gpus) -> list[bool]:
    """Returns for each copy to a GPU whether the host has waited for it."""
    return [one.waits for one in gpus.crossings if one.kind == "to device"]


@pytest.mark.parametrize("pinned", [True, False])
def test_adapters_are_streamed_with_the_weights_that_they_change(
    gpus: Gpus, pinned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copies come from pinned memory, so the host does not wait for them, and nothing of them stays on the GPU."""
    monkeypatch.setattr("longtake.models.applying.may_pin_adapters", lambda num_bytes, memories: pinned)
    transformer = small.transformer()
    adapters = [(_adapter(transformer), (1.0, -2.0))]
    with applied(transformer, adapters, originals=Originals("none")) as set_pass:
        expected = []
        for number in (0, 1):
            set_pass(number)
            expected.append(small.velocity(transformer))
    plain = small.velocity(transformer)
    stream(transformer, GPU, by_block=True, pinned=pinned)
    before = Trace(transformer)
    assert torch.equal(small.velocity(transformer, "cuda:1"), plain)
    gpus.crossings.clear()
    assert torch.equal(small.velocity(transformer, "cuda:1"), plain)
    used, usual = gpus.used, _copies(gpus)
    with applied(transformer, adapters, originals=Originals("none")) as set_pass:
        for number in (0, 1, 0):
            set_pass(number)
            gpus.crossings.clear()
            assert torch.equal(small.velocity(transformer, "cuda:1"), expected[number])
            assert gpus.used == used
            copies = _copies(gpus)
            assert len(copies) == len(usual) + 6
            assert sum(copies) == sum(usual) + 2, "the host waits for the layer outside the blocks only"
    assert Trace(transformer) == before
    assert torch.equal(small.velocity(transformer, "cuda:1"), plain)
    assert gpus.used == used


def test_the_machine_is_asked_for_its_memory_once_and_not_for_each_layer(
    gpus: Gpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes about a millisecond, and a model of 22B has more than a thousand layers."""
    asked, memories = list[torch.device](), memory.memories

    def noted(device: torch.device, slots: Sequence[str]) -> Memories:
        asked.append(device)
        return memories(device, slots)

    monkeypatch.setattr(memory, "memories", noted)
    transformer = small.transformer()
    stream(transformer, GPU, by_block=True, pinned=False)
    with applied(transformer, [(_adapter(transformer), (1.0,))], originals=Originals("none")):
        assert asked == [GPU]


def test_a_layer_is_in_the_group_of_its_block_or_of_the_whole_part(gpus: Gpus) -> None:
    transformer = small.transformer()
    assert group_of(transformer, "proj_in") is None
    stream(transformer, GPU, by_block=True, pinned=False)
    for name in ("proj_in", "transformer_blocks.1.attn1.to_q"):
        group = group_of(transformer, name)
        assert group is not None
        assert group.device == GPU


def test_a_part_is_streamed_by_blocks_or_by_layers(gpus: Gpus) -> None:
    for by_block in (True, False):
        transformer = small.transformer()
        assert not is_streamed(transformer)
        stream(transformer, GPU, by_block=by_block, pinned=False)
        assert is_streamed(transformer)
