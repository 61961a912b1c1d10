"""Where weights and their copies are follows from sizes and total memory alone."""

import pytest

from longtake.models.budget import (
    Home,
    Memories,
    TextPlace,
    copies_home,
    may_pin,
    may_pin_adapters,
    text_leaves,
    text_place,
)

GB = 10**9
GIB = 1024**3

SIZES_13B = {"transformer": 26 * GB, "text_encoder": 9 * GB, "vae": 3 * GB}
SIZES_22B = {"transformer": 38 * GB, "text_encoder": 25 * GB, "vae": 9 * GB}
TINY = {"transformer": GB // 100, "text_encoder": GB // 100}


@pytest.mark.parametrize(
    ("sizes", "copies", "offload", "device", "host", "home"),
    [
        (SIZES_22B, 37 * GB, "none", 141 * GB, 128 * GIB, "device"),
        (SIZES_22B, 37 * GB, "none", 85 * GB, 128 * GIB, "pinned"),
        (SIZES_22B, 37 * GB, "none", 85 * GB, 72 * GIB, "host"),
        (SIZES_22B, 37 * GB, "none", 85 * GB, 60 * GIB, "none"),
        (SIZES_22B, 37 * GB, "none", 85 * GB, None, "host"),
        (SIZES_13B, 26 * GB, "none", 85 * GB, 64 * GIB, "device"),
        (SIZES_13B, 26 * GB, "model", 48 * GB, 64 * GIB, "pinned"),
        (SIZES_13B, 26 * GB, "model", 48 * GB, 32 * GIB, "host"),
        (SIZES_13B, 26 * GB, "group", 24 * GB, 1024 * GIB, "none"),
        (SIZES_13B, 26 * GB, "none", None, 128 * GIB, "device"),
        (SIZES_13B, 26 * GB, "none", None, 64 * GIB, "none"),
        (SIZES_13B, 26 * GB, "none", None, None, "device"),
        (TINY, GB // 100, "none", GB // 2, GIB, "device"),
    ],
)
def test_copies_are_where_there_is_room_for_them(
    sizes: dict[str, int], copies: int, offload: str, device: int | None, host: int | None, home: Home
) -> None:
    assert copies_home(sizes, copies, offload, Memories(device, host)) == home


@pytest.mark.parametrize(
    ("sizes", "home", "device", "host", "place"),
    [
        (SIZES_22B, "device", 141 * GB, 128 * GIB, "device"),
        (SIZES_22B, "pinned", 85 * GB, 128 * GIB, "pinned"),
        (SIZES_22B, "host", 85 * GB, 72 * GIB, "pinned"),
        (SIZES_22B, "none", 85 * GB, 30 * GIB, "host"),
        (SIZES_13B, "pinned", 85 * GB, 30 * GIB, "device"),
        (SIZES_13B, "host", 51 * GB, 64 * GIB, "pinned"),
        (SIZES_13B, "device", None, 64 * GIB, "device"),
        (TINY, "device", GB // 2, GIB, "device"),
    ],
)
def test_the_text_encoder_leaves_the_device_if_activations_lack_room(
    sizes: dict[str, int], home: Home, device: int | None, host: int, place: TextPlace
) -> None:
    memories = Memories(device, host)
    assert text_place(sizes, home, memories) == place
    assert text_leaves(sizes, memories) == (place != "device")


def test_the_largest_model_needs_at_most_72_gb_of_an_80_gb_card() -> None:
    """The sizes are those of docs/checkpoints.md, and 7.3 GB the activations of a measured request."""
    others = 38.0 + 1.5 + 1.0 + 0.7
    gemma, connectors, activations = 24.4, 6.3, 7.3
    sizes = {"transformer": 38.0, "rest": 3.2, "text_encoder": gemma, "connectors": connectors}
    assert text_leaves({part: round(size * GB) for part, size in sizes.items()}, Memories(85 * GB, 128 * GIB))
    assert max(others + gemma, others + activations) < 72


def test_at_most_three_quarters_of_host_memory_are_pinned() -> None:
    assert may_pin(46 * GB, Memories(24 * GIB, 62 * GIB))
    assert not may_pin(46 * GB, Memories(24 * GIB, 31 * GIB))
    assert not may_pin(1, Memories(None, 62 * GIB)), "there is nothing to pin memory for"
    assert not may_pin(1, Memories(24 * GIB, None))


def test_cached_adapters_are_pinned_if_they_take_an_eighth_of_host_memory() -> None:
    assert may_pin_adapters(10 * GIB, Memories(24 * GIB, 128 * GIB))
    assert not may_pin_adapters(10 * GIB, Memories(24 * GIB, 62 * GIB))
    assert not may_pin_adapters(1, Memories(None, 62 * GIB))
