"""The doctor says how the published models run on a GPU, by the arithmetic with which they are loaded.

README.md and docs/checkpoints.md say the same.
"""

import re
from pathlib import Path

import pytest

from longtake.cli.fitting import PUBLISHED, SizedModel, fitting, in_host
from longtake.models.budget import Memories
from longtake.models.fp8 import Mode
from longtake.models.memory import choose_offload

GB = 10**9

SMALL, LARGE = PUBLISHED
"""LTX-Video 13B and LTX-2.3."""


@pytest.mark.parametrize(
    ("model", "mode", "device", "host", "plain", "narrow"),
    [
        (SMALL, "products", 141, 256, "38.4 GB stay on it", "29.1 GB stay on it"),
        (SMALL, "storage", 51, 128, "38.4 GB stay on it, the text encoder only", "25.4 GB stay on it"),
        (SMALL, "products", 25, 64, "its transformer is streamed (38.4 GB", "one part at a time is on it (25.4 GB"),
        (SMALL, "storage", 17, 64, "its transformer and its text encoder are", "its transformer is streamed (21.9 GB"),
        (SMALL, "storage", 25, 32, "does not fit, because 38.4 GB of host memory", "one part at a time"),
        (LARGE, "products", 85, 128, "71.9 GB stay on it, the text encoder only", "58.0 GB stay on it"),
        (LARGE, "storage", 85, 128, "71.9 GB stay on it, the text encoder only", "53.4 GB stay on it"),
        (
            LARGE,
            "products",
            25,
            128,
            "its transformer and its text encoder are",
            "its transformer is streamed (47.2 GB",
        ),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_each_model_is_placed_as_it_would_be_loaded(
    model: SizedModel, mode: Mode, device: int, host: int, plain: str, narrow: str
) -> None:
    text = fitting(model, mode, Memories(device * GB, host * GB))
    first, second = text.split("; with LONGTAKE_QUANTISE=fp8: ")
    assert plain in first
    assert narrow in second


def test_gpus_that_work_together_must_hold_the_whole_transformer() -> None:
    text = fitting(SMALL, "products", Memories(25 * GB, 64 * GB), are_several=True)
    first, second = text.split("; with LONGTAKE_QUANTISE=fp8: ")
    assert first == "does not fit, because GPUs that work together must hold the whole transformer"
    assert second.startswith("one part at a time is on it")


ROOT = Path(__file__).parents[2]
README, CHECKPOINTS = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/checkpoints.md"))

PARTS = {
    "text encoder": "text_encoder",
    "connectors": "connectors",
    "video autoencoder": "vae",
    "upsampler": "upsampler",
    "audio autoencoder and vocoder, always in float32": "audio_vae",
}
"""The parts by their names in docs/checkpoints.md."""

CARDS = {"24": 25 * GB, "40": 42 * GB, "48": 51 * GB, "80": 85 * GB}
"""The memory of cards in bytes, by the number of GB with which they are sold."""

PLACES = {
    "parts take turns on the card": "one part at a time is on it",
    "all parts on the card": "stay on it",
    "the text encoder only while it runs": "the text encoder only while it runs",
    "streamed from the host": "its transformer is streamed",
}
"""What README.md says, and what the doctor says."""


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the rows below the line of a table that begins with `heading`."""
    table = text[text.index(f"| {heading} |") :].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def number(cell: str) -> float | None:
    found = re.match(r"[\d.]+", cell)
    return float(found[0]) if found else None


def test_the_sizes_are_those_of_the_page() -> None:
    of_page = {name: [number(cell) for cell in cells] for name, *cells in rows(CHECKPOINTS, "part")}
    for column, model in enumerate(PUBLISHED):
        assert of_page["transformer"][column] == model.transformer["none"] / GB
        for name, part in PARTS.items():
            assert of_page[name][column] == (model.others[part] / GB if part in model.others else None)
    for model, name in zip(PUBLISHED, ("13B", "LTX-2.3"), strict=True):
        plain, stored, products = (model.transformer[mode] / GB for mode in ("none", "storage", "products"))
        assert f"| {name}, bfloat16: {plain} GB | {name}, fp8: {stored} GB (products: {products}) |" in CHECKPOINTS


def test_the_cards_of_the_readme_run_the_models_in_this_way() -> None:
    model, read = PUBLISHED[0], 0
    for cards, names, setting, *_ in rows(README, "your card"):
        model = LARGE if "2.3" in names else model
        for card in re.findall(r"\d+", cards):
            text = fitting(model, "storage", Memories(CARDS[card], 128 * GB))
            way = text.split("; with LONGTAKE_QUANTISE=fp8: ")["fp8" in setting]
            said = [of_doctor for of_readme, of_doctor in PLACES.items() if of_readme in setting]
            assert said == [of_doctor for of_doctor in PLACES.values() if of_doctor in way], (model.name, cards)
            read += 1
    assert read == 7


def test_the_cards_of_the_page_run_the_models_in_this_way() -> None:
    modes: tuple[Mode, ...] = ("none", "storage")
    for card, *cells in rows(CHECKPOINTS, "card"):
        total = CARDS[card.removesuffix(" GB")]
        ways = [choose_offload("auto", model.sizes(mode), total, total) for model in PUBLISHED for mode in modes]
        assert [cell.split("`")[1] for cell in cells] == ways


@pytest.mark.parametrize(
    ("host", "bytes_each", "text"),
    [
        (25 * GB, 4, "76.7 GB of weights do not fit into 25.0 GB of memory"),
        (64 * GB, 2, "38.4 GB of weights fit into 64.0 GB of memory"),
        (40 * GB, 2, "38.4 GB of weights do not fit into 40.0 GB of memory"),  # activations need some, too
        (None, 2, "38.4 GB of weights"),
    ],
)
def test_on_a_device_that_shares_the_host_s_memory_the_weights_must_fit_there(
    host: int | None, bytes_each: int, text: str
) -> None:
    assert in_host(SMALL, host, bytes_each=bytes_each) == text
