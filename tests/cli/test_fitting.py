"""The doctor says how the published models run on a GPU, by the arithmetic with which they are loaded."""

import pytest

from longtake.cli.fitting import SIZES, fitting
from longtake.models.budget import Memories

GB = 10**9


@pytest.mark.parametrize(
    ("name", "device", "host", "plain", "narrow"),
    [
        ("LTX-Video 13B", 141, 256, "38.4 GB stay on it", "25.3 GB stay on it"),
        ("LTX-Video 13B", 51, 128, "38.4 GB stay on it, the text encoder only", "25.3 GB stay on it"),
        ("LTX-Video 13B", 25, 64, "streamed block by block", "one part at a time"),
        ("LTX-Video 13B", 25, 32, "does not fit, because 38.4 GB of host memory", "one part at a time"),
        ("LTX-2.3", 85, 128, "71.9 GB stay on it, the text encoder only", "52.9 GB stay on it"),
        ("LTX-2.3", 25, 128, "streamed block by block", "streamed block by block"),
    ],
)
def test_each_model_is_placed_as_it_would_be_loaded(name: str, device: int, host: int, plain: str, narrow: str) -> None:
    text = fitting(SIZES[name], Memories(device * GB, host * GB))
    first, second = text.split("; with LONGTAKE_QUANTISE=fp8: ")
    assert plain in first
    assert narrow in second
