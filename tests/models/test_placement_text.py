"""The sentences for the log about a model's weights."""

from dataclasses import replace

from longtake.models.placement_text import described
from tests.models.test_placement import place, room


def test_streamed_parts_are_named() -> None:
    streamed = place(room(25, 24))
    (told,) = described("ltx", streamed, "none", "device", 1)
    assert told.startswith("ltx: the transformer and the text encoder are streamed from pinned host memory; ")
    (told,) = described("ltx", place(room(141, 140)), "device", "pinned", 1)
    assert told.startswith("ltx: all weights are on the device, the text encoder only while it runs, from pinned")


def test_what_is_shared_and_what_works_together_is_told() -> None:
    told = list(described("ltx", place(room(141, 140, others=(140,))), "device", "device", 2))
    assert told[1:] == [
        "2 slots use the GPU, and each plans for an equal share of 141.0 GB.",
        "cuda:0 and cuda:1 compute together; each has a copy of the transformer.",
    ]
    told = list(described("ltx", place(room(None, None)), "device", "device", 2))
    assert told[1:] == ["2 slots use the GPU, and each plans for an equal share."]


def test_a_text_encoder_in_8_bits_is_told() -> None:
    told = list(described("ltx", replace(place(room(141, 140)), has_short_text=True), "device", "device", 1))
    assert told[1].startswith("The text encoder's weights are stored in 8 bits")
