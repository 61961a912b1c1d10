"""A LoRA that does not fit a transformer is refused, and the message names what does not fit."""

import pytest

from longtake.errors import InvalidRequest
from longtake.models.applying import applied
from longtake.models.loras import Adapter, Pair
from tests.models import small
from tests.models.adapters import MODULE, Trace, low_rank_pair


@pytest.mark.parametrize(
    ("module", "shape", "reason"),
    [
        ("transformer_blocks.9.attn1.to_q", (16, 16), r"lacks 1 module: transformer_blocks\.9\.attn1\.to_q"),
        ("transformer_blocks.0.norm1", (16, 16), r"lacks 1 module: transformer_blocks\.0\.norm1"),
        (MODULE, (16, 12), r"to_q is 16 x 16, its change 16 x 12"),
        (MODULE, (8, 16), r"to_q is 16 x 16, its change 8 x 16"),
    ],
)
def test_modules_that_do_not_fit_the_model_are_named(module: str, shape: tuple[int, int], reason: str) -> None:
    fitting = Adapter("good", {MODULE: Pair(*low_rank_pair())})
    adapter = Adapter("bad", {module: Pair(*low_rank_pair(out=shape[0], into=shape[1]))})
    transformer = small.transformer()
    before = Trace(transformer)
    with (
        pytest.raises(InvalidRequest, match=reason) as raised,
        applied(transformer, [(fitting, (1.0,)), (adapter, (1.0,))]),
    ):
        raise AssertionError("must not be entered")
    assert (raised.value.loc, raised.value.value) == (("body", "loras", 1, "path"), "bad")
    assert Trace(transformer) == before
