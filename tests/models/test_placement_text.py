"""The sentences for the log about a model's weights."""

from longtake.models.budget import Memories
from longtake.models.placement_text import described, shared


def test_a_shared_gpu_is_told_with_the_share() -> None:
    memories = Memories(40 * 10**9, 32 * 10**9)
    assert shared(2, memories) == "2 slots use the GPU, and each plans for an equal share of 40.0 GB."
    assert shared(2, Memories(None, None)) == "2 slots use the GPU, and each plans for an equal share."


def test_streamed_parts_are_named() -> None:
    told = described("group", "none", "device", ["transformer", "text_encoder"], pinned=True)
    assert told.startswith("the transformer and the text encoder are streamed from pinned host memory; ")
    assert described("none", "device", "pinned", [], pinned=True).startswith("all weights are on the device, the text")
