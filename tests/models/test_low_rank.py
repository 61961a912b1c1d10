"""Adapters beside a weight add their products to the layer's output, and nothing of them is rounded to 8 bits."""

import pytest
import torch
from torch import Tensor, nn

from longtake.models import fp8
from longtake.models.adapted_layer import Change
from longtake.models.loras import Adapter, Pair
from longtake.models.low_rank import BesideLayer, BesideWeight, padded_rank
from longtake.models.merging import Originals
from tests.models import small
from tests.models.adapters import MODULE, applied_in_pass, low_rank_pair


def _layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(16, 16).requires_grad_(False)


@pytest.mark.parametrize("shape", [(16,), (5, 16), (2, 5, 16)])
def test_the_products_are_added_to_the_output(shape: tuple[int, ...]) -> None:
    layer, x = _layer(), torch.randn(3, *shape)
    plain = layer(x)
    first, second = Pair(*low_rank_pair(2, seed=1), 0.5), Pair(*low_rank_pair(4, seed=2))
    model, changes = nn.Sequential(layer), [Change(first, (1.0, 0.0)), Change(second, (-0.5, 2.0))]
    beside = BesideLayer(model, "0", changes, torch.float32, 16, BesideWeight(layer))
    assert torch.equal(model(x), plain), "unchanged before the first pass"
    for number, strengths in ((0, (0.5, -0.5)), (1, (0.0, 2.0)), (0, (0.5, -0.5))):
        beside.set_pass(number)
        wanted = plain
        for pair, strength in zip((first, second), strengths, strict=True):
            wanted = wanted + strength * x @ pair.a.T @ pair.b.T
        assert torch.allclose(model(x), wanted, rtol=1e-5, atol=1e-5)
    beside.restore()
    assert torch.equal(model(x), plain)
    assert model[0] is layer


def test_the_dtype_of_the_output_is_that_of_the_layer() -> None:
    layer = _layer().bfloat16()
    model, changes = nn.Sequential(layer), [Change(Pair(*low_rank_pair(2)), (1.0,))]
    beside = BesideLayer(model, "0", changes, torch.bfloat16, 16, BesideWeight(layer))
    beside.set_pass(0)
    assert model(torch.randn(3, 16).bfloat16()).dtype == torch.bfloat16


def test_without_memory_for_the_next_pass_the_layer_is_restored_and_each_matrix_is_freed_once() -> None:
    """Otherwise another error would hide the lack of memory, and the request would not be made again with less."""

    class SmallPlace(BesideWeight):
        def keep(self, matrix: Tensor) -> Tensor:
            if len(kept) == 2:
                raise torch.OutOfMemoryError
            kept.append(matrix)
            return matrix

        def free(self, matrix: Tensor) -> None:
            freed.append(matrix)

    layer, kept, freed = _layer(), list[Tensor](), list[Tensor]()
    model, changes = nn.Sequential(layer), [Change(Pair(*low_rank_pair(2)), (1.0, 2.0))]
    beside = BesideLayer(model, "0", changes, torch.float32, 16, SmallPlace(layer))
    beside.set_pass(0)
    with pytest.raises(torch.OutOfMemoryError):
        beside.set_pass(1)
    beside.restore()
    assert model[0] is layer
    assert sorted(map(id, freed)) == sorted(map(id, kept))


@pytest.mark.parametrize(("rank", "padded"), [(1, 16), (16, 16), (17, 32), (128, 128), (129, 256), (384, 384)])
def test_few_different_ranks_remain(rank: int, padded: int) -> None:
    assert padded_rank(rank) == padded


def test_a_small_adapter_has_its_whole_effect_beside_weights_in_8_bits() -> None:
    """An adapter of 0.1 % of the weight would lose most of its effect if it were rounded to 8 bits with the weight."""
    transformer = small.transformer()
    fp8.convert(transformer, "storage", torch.float32)
    layer = transformer.get_submodule(MODULE)
    assert isinstance(layer, fp8.Float8Linear)
    a, b = low_rank_pair()
    factor = float(0.001 * layer.weight.float().norm() / (b @ a).norm())
    x = torch.randn(4, 16)
    plain: Tensor = layer(x)
    with applied_in_pass(transformer, [(Adapter("a", {MODULE: Pair(a, b, factor)}), (1.0,))], originals=Originals()):
        change = transformer.get_submodule(MODULE)(x) - plain
    wanted = factor * x @ a.T @ b.T
    assert (change - wanted).norm() < 0.01 * wanted.norm()
