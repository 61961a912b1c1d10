"""Tiles of the VAE follow from the sizes and the device's total memory."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from longtake.models import memory
from longtake.sampling import tiling
from longtake.sampling.tiling import LARGE, SMALL, Tiles, activation_bytes, choose
from longtake.sampling.vae import encode_clip
from tests.models import small

GPU, CPU = torch.device("cuda"), torch.device("cpu")
HD = (1280, 704)


def _published(dtype: torch.dtype = torch.bfloat16) -> Any:
    """Returns what is read of the VAE of the published LTX-Video model."""
    return SimpleNamespace(dtype=dtype, config=SimpleNamespace(patch_size=4, block_out_channels=(128, 256, 512)))


@pytest.mark.parametrize(
    ("gigabytes", "canvas", "num_frames", "tiles"),
    [
        (85, HD, 121, None),
        (85, (1664, 896), 97, LARGE),
        (150, (1664, 896), 97, None),
        (51, HD, 97, LARGE),
        (51, (832, 480), 97, None),
        (25, HD, 97, SMALL),
        (25, HD, 9, None),
        (8, HD, 97, SMALL),
    ],
)
def test_a_gpu_decodes_whole_frames_where_they_fit(
    gigabytes: int, canvas: tuple[int, int], num_frames: int, tiles: Tiles | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "device_bytes", lambda device: gigabytes * 10**9)
    assert choose(_published(), canvas, num_frames, GPU) == tiles


def test_other_devices_split_large_frames() -> None:
    assert choose(_published(), (1024, 576), 97, CPU) is None
    assert choose(_published(), HD, 97, CPU) == LARGE


def test_a_request_that_ran_out_of_memory_has_small_tiles() -> None:
    token = memory.low_memory.set(True)
    assert choose(_published(), HD, 1, CPU) == SMALL
    memory.low_memory.reset(token)
    assert choose(_published(), HD, 1, CPU) == LARGE


def test_the_estimate_is_a_little_more_than_what_was_counted() -> None:
    """For the published model in 16 bits, 118 bytes per pixel and frame were counted for encoding, 101 for decoding."""
    each = activation_bytes(_published(), HD, 97) / (HD[0] * HD[1] * 97)
    assert 118 < each < 1.1 * 118
    assert activation_bytes(_published(torch.float32), HD, 97) == 2 * activation_bytes(_published(), HD, 97)


def test_tiles_cover_the_frame() -> None:
    assert tiling.LARGE.count(HD) == 4
    assert tiling.SMALL.count(HD) == 8


def test_frames_that_fit_into_one_tile_are_encoded_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    vae: Any = small.vae()
    monkeypatch.setattr(tiling, "SMALL", Tiles(64, 48))
    token = memory.low_memory.set(True)
    found = []
    for side in (64, 96):
        encode_clip(vae, np.zeros((1, side, side, 3), np.uint8), (side, side))
        found.append(vae.use_tiling)
    memory.low_memory.reset(token)
    assert found == [False, True]
