"""Adapters are merged into weights in float32 and rounded once, and the weights are restored from copies."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from longtake.models import fp8
from longtake.models.adapted_layer import Change
from longtake.models.budget import Home
from longtake.models.loras import Pair
from longtake.models.merging import MergedLayer, Originals, merge, mergeable_bytes, merges
from tests.models import small
from tests.models.adapters import low_rank_pair


def _layer(dtype: torch.dtype = torch.bfloat16) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(16, 16, bias=False).requires_grad_(False).to(dtype)


def _change(*scales: float, rank: int = 3, factor: float = 0.1) -> Change:
    return Change(Pair(*low_rank_pair(rank, seed=rank), factor), scales)


@settings(max_examples=30, deadline=None)
@given(
    ranks=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    scale=st.floats(-3, 3),
    dtype=st.sampled_from([torch.bfloat16, torch.float16, torch.float32]),
    stored=st.sampled_from([torch.bfloat16, torch.float32]),
)
def test_a_merged_weight_is_rounded_once(
    ranks: list[int], scale: float, dtype: torch.dtype, stored: torch.dtype
) -> None:
    weight = _layer(dtype).weight.data
    pairs = [low_rank_pair(rank, seed=rank) for rank in ranks]
    changes = [Change(Pair(a.to(stored), b.to(stored), 0.1), (scale,)) for a, b in pairs]
    exact = weight.double()
    for change in changes:
        exact = exact + change.strength(0) * change.pair.b.double() @ change.pair.a.double()
    merge(weight, weight.clone(), changes, [change.strength(0) for change in changes])
    spacing = torch.finfo(dtype).eps * exact.abs().clamp(min=torch.finfo(dtype).smallest_normal)
    assert ((weight.double() - exact).abs() <= spacing / 2 + 1e-5).all()


@pytest.mark.parametrize("home", ["device", "host"])
def test_the_bits_of_a_pass_depend_on_its_scales_alone(home: Home) -> None:
    layer, changes = _layer(), [_change(0.2, 0.5, 0.0), _change(1.0, -1.0, 0.0, rank=5)]
    base, wanted = layer.weight.clone(), []
    for number in range(3):
        alone = _layer()
        MergedLayer("x", alone, changes, Originals(home)).set_pass(number)
        wanted.append(alone.weight)
    assert torch.equal(wanted[2], base)
    merged = MergedLayer("x", layer, changes, Originals(home))
    for number in (0, 1, 0, 2, 1, 1, 2, 0):
        merged.set_pass(number)
        assert torch.equal(layer.weight, wanted[number])
    merged.restore()
    assert torch.equal(layer.weight, base)


def test_a_merge_that_fails_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, originals = _layer(), Originals()
    base, merged = layer.weight.clone(), MergedLayer("x", layer, [_change(1.0)], originals)

    def fail(weight: Tensor, *_: object) -> None:
        weight.zero_()
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr("longtake.models.merging.merge", fail)
        with pytest.raises(RuntimeError):
            merged.set_pass(0)
    merged.restore()
    assert torch.equal(layer.weight, base)


def test_only_changed_weights_are_copied_and_only_once() -> None:
    class Counted(Originals):
        def copy_of(self, name: str, weight: Tensor) -> Tensor:
            copies.append(super().copy_of(name, weight))
            return copies[-1]

    copies: list[Tensor] = []
    originals = Counted()
    MergedLayer("a", _layer(), [_change(0.0)], originals).set_pass(0)
    assert copies == []
    for _ in range(2):
        layer = MergedLayer("a", _layer(), [_change(1.0, 0.5)], originals)
        layer.set_pass(0)
        layer.set_pass(0)
        layer.set_pass(1)
        layer.restore()
        layer.restore()
    assert len(copies) == 2 * 3
    assert len({copy.data_ptr() for copy in copies}) == 1


def test_all_copies_can_be_made_before_the_first_request() -> None:
    transformer, originals = small.transformer(), Originals("host")
    fp8.convert(transformer, "storage", torch.float32)
    originals.copy_all(transformer)
    copied = originals._copies
    assert sum(copy.nbytes for copy in copied.values()) == mergeable_bytes(transformer) > 0
    for name, copy in copied.items():
        weight = transformer.state_dict()[f"{name}.weight"]
        assert torch.equal(copy, weight)
        assert copy.data_ptr() != weight.data_ptr()
    Originals("none").copy_all(transformer)


def test_only_ordinary_weights_with_room_for_a_copy_are_merged_into() -> None:
    assert all(merges(_layer(dtype), Originals()) for dtype in (torch.float32, torch.bfloat16, torch.float16))
    assert not merges(_layer(), Originals("none"))
    assert not merges(_layer(torch.float8_e4m3fn), Originals())

    class Quantised(Tensor):
        """Stands for a class of a library, which computes with fewer bits than its dtype says."""

    layer = _layer()
    layer.weight = nn.Parameter(layer.weight.as_subclass(Quantised), requires_grad=False)
    assert not merges(layer, Originals())


def test_the_bytes_of_weights_that_can_be_merged_into() -> None:
    transformer = small.transformer()
    linear = [module for module in transformer.modules() if isinstance(module, nn.Linear)]
    assert mergeable_bytes(transformer) == sum(4 * layer.in_features * layer.out_features for layer in linear)
    fp8.convert(transformer, "storage", torch.float32)
    linear = [module for module in transformer.modules() if isinstance(module, nn.Linear)]
    left = [layer for layer in linear if layer.weight.dtype == torch.float32]
    assert 0 < len(left) < len(linear)
    assert mergeable_bytes(transformer) == sum(4 * layer.in_features * layer.out_features for layer in left)
