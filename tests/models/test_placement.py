"""How a model's weights are held, by the memory of the machine."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from longtake.errors import NotSupported
from longtake.models import fp8, memory, placement
from longtake.models.budget import Home, Memories, TextPlace
from longtake.models.fp8 import Mode
from longtake.models.placement import Placement, Room, placed, without_streaming
from longtake.settings import Settings
from tests.models.cards import ltxv_card

GB = 10**9
CPU = torch.device("cpu")
TRANSFORMER: Mapping[Mode, int] = {"none": 38 * GB, "storage": 20 * GB, "products": 24 * GB}


def sizes(mode: Mode, has_short_text: bool) -> dict[str, int]:
    """Those of a model with 22B parameters."""
    text = (14 if has_short_text else 24) * GB
    return {"text_encoder": text, "connectors": 6 * GB, "vae": 2 * GB, "transformer": TRANSFORMER[mode]}


def room(total: int | None, free: int | None, host: int = 128, others: tuple[int | None, ...] = ()) -> Room:
    """A GPU with `total` GB of memory, of which `free` are free, and further ones; the CPU if it is None."""
    frees = tuple(None if each is None else each * GB for each in (free, *others))
    devices = [torch.device(f"cuda:{index}") if total else CPU for index in range(len(frees))]
    return Room(tuple(devices), Memories(total and total * GB, host * GB), frees)


def place(room: Room, wanted: Mode = "none", offload: str = "auto") -> Placement:
    return placed(room, torch.bfloat16, sizes, wanted, offload)


ALL = ("text_encoder", "connectors", "vae", "transformer")
BOTH = ("transformer", "text_encoder")


@pytest.mark.parametrize(
    ("room", "wanted", "offload", "mode", "is_short", "streamed", "direct"),
    [
        (room(None, None), "none", "none", "none", False, (), ALL),
        (room(141, 140), "none", "none", "none", False, (), ALL),
        (room(141, 60), "none", "model", "none", False, (), ()),
        (room(85, 84), "none", "none", "none", False, (), ("vae", "transformer")),
        (room(51, 50), "none", "model", "none", False, (), ()),
        (room(25, 24), "none", "group", "none", False, BOTH, ()),
        (room(141, 140), "products", "none", "products", False, (), ALL),
        # Weights in 8 bits fit, but the rounding would begin with weights that do not.
        (room(141, 65), "products", "none", "products", False, (), ALL[:3]),
        # The text encoder fits only in 8 bits, and the transformer only without products in them.
        (room(30, 29), "products", "model", "storage", True, (), ()),
        (room(25, 24), "products", "group", "products", True, ("transformer",), ()),
    ],
)
def test_weights_are_where_the_memory_allows(
    room: Room, wanted: Mode, offload: str, mode: Mode, is_short: bool, streamed: tuple[str, ...], direct: object
) -> None:
    found = place(room, wanted)
    assert (found.offload, found.eight_bits, found.has_short_text) == (offload, mode, is_short)
    assert (found.streamed, found.direct) == (streamed, direct)
    assert found.sizes == sizes(mode, is_short)


def test_the_setting_decides_before_the_memory() -> None:
    assert place(room(None, None), offload="group").streamed == BOTH
    assert place(room(25, 24), offload="none").direct == ("vae", "transformer")


@pytest.mark.parametrize(
    ("room", "leaves", "keeps", "home", "text_place"),
    [
        (room(None, None), False, False, "device", "device"),
        (room(None, None, host=100), False, False, "none", "device"),
        (room(141, 140), False, False, "device", "device"),
        (room(85, 84), True, False, "pinned", "pinned"),
        (room(85, 84, host=80), True, False, "host", "pinned"),
        (room(51, 50), False, True, "pinned", "device"),
        (room(51, 50, host=80), False, True, "host", "device"),
        # Another program uses the GPU now: the bits are those of a request without it.
        (room(141, 60), False, True, "pinned", "device"),
        (room(25, 24), False, False, "none", "device"),
    ],
)
def test_copies_and_the_text_encoder_have_a_place(
    room: Room, leaves: bool, keeps: bool, home: Home, text_place: TextPlace
) -> None:
    found = place(room)
    assert (bool(found.leaving), found.keeps_originals) == (leaves, keeps)
    assert found.home(36 * GB) == home
    assert found.text_place(home) == text_place


def test_copies_on_further_devices_take_memory_of_their_own() -> None:
    shared = place(room(None, None, others=(None, None)))
    assert shared.sizes["copies"] == 2 * 38 * GB
    assert shared.direct_copies == (True, True)
    on_gpus = place(room(141, 140, others=(140, 34)), "products")
    assert "copies" not in on_gpus.sizes
    assert on_gpus.direct_copies == (True, False), "there is no room for the transformer before it is rounded"


def test_a_device_without_room_for_a_copy_is_refused_in_words() -> None:
    place(room(141, 140, others=(50,)))
    with pytest.raises(NotSupported, match=r"cuda:1 has no room .*: 40.0 GB are free, .* need 46.6 GB.*QUANTISE=fp8"):
        place(room(141, 140, others=(40,)))
    with pytest.raises(NotSupported, match=r"must hold the whole transformer, but its weights are streamed"):
        place(room(25, 24, others=(24,)))


def test_no_transformer_is_streamed_for_products_in_8_bits_alone() -> None:
    def each(mode: Mode) -> dict[str, int]:
        return {"transformer": TRANSFORMER[mode]}

    totals = [TRANSFORMER[mode] + memory.RESERVE_BYTES for mode in ("products", "storage")]
    found = [without_streaming("products", each, total) for total in (*totals, 1, None)]
    assert found == ["products", "storage", "products", "products"]
    assert without_streaming("storage", each, totals[0]) == "storage"


@pytest.mark.parametrize(("total", "mode", "reason"), [(90, "products", "The blocks multiply"), (45, "storage", "fit")])
def test_the_reason_says_why_weights_are_stored_instead_of_multiplied(
    monkeypatch: pytest.MonkeyPatch, total: int, mode: Mode, reason: str
) -> None:
    def needed(*arguments: object) -> dict[str, int]:
        return {"transformer": 5 if arguments[2] == "storage" else 10}

    monkeypatch.setattr(fp8, "choose_mode", lambda *_, **__: ("products", "The blocks multiply in 8 bits."))
    monkeypatch.setattr(placement, "part_bytes", needed)
    monkeypatch.setattr(Room, "of", lambda _: replace(room(1, 1), memories=Memories(total, None), free=(total,)))
    found, why = placement.plan(ltxv_card("ltxv-tiny"), {}, Settings(), are_compiled=True)
    assert found.eight_bits == mode
    assert reason in why
