"""The doctor says how the published models run on a GPU, by the arithmetic with which they are loaded."""

import pytest

from longtake.cli.fitting import PUBLISHED, SizedModel, fitting
from longtake.models.budget import Memories
from longtake.models.fp8 import Mode

GB = 10**9

SMALL, LARGE = PUBLISHED
"""LTX-Video 13B and LTX-2.3."""


@pytest.mark.parametrize(
    ("model", "mode", "device", "host", "plain", "narrow"),
    [
        (SMALL, "products", 141, 256, "38.4 GB stay on it", "29.1 GB stay on it"),
        (SMALL, "storage", 51, 128, "38.4 GB stay on it, the text encoder only", "25.4 GB stay on it"),
        (SMALL, "products", 25, 64, "streamed block by block", "one part at a time is on it (25.4 GB"),
        (SMALL, "storage", 25, 32, "does not fit, because 38.4 GB of host memory", "one part at a time"),
        (LARGE, "products", 85, 128, "71.9 GB stay on it, the text encoder only", "58.0 GB stay on it"),
        (LARGE, "storage", 85, 128, "71.9 GB stay on it, the text encoder only", "53.4 GB stay on it"),
        (LARGE, "products", 25, 128, "streamed block by block", "streamed block by block"),
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
