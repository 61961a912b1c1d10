"""The share of a decoding that is done: it grows with the work, ends at 1, and leaves no trace in the decoder."""

from itertools import pairwise

import pytest
import torch
from diffusers import AutoencoderKLLTXVideo

from longtake.errors import Cancelled
from longtake.sampling.tiling import WIDEST_UNTILED
from longtake.sampling.vae import decode
from longtake.sampling.vae_progress import block_costs
from tests.sampling.small_vae import small_vae


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLLTXVideo:
    return small_vae()


def latent(height: int, width: int, frames: int = 3) -> torch.Tensor:
    return torch.zeros(1, 8, frames, height, width)


@torch.inference_mode()
def test_the_share_grows_to_1(vae: AutoencoderKLLTXVideo) -> None:
    shares: list[float] = []
    decode(vae, latent(2, 2), 0.05, shares.append)
    assert shares[-1] == pytest.approx(1)
    assert all(before < after for before, after in pairwise(shares))
    assert len(shares) == len(block_costs(vae.decoder)) > 2


@torch.inference_mode()
def test_the_share_counts_all_tiles_of_large_frames(vae: AutoencoderKLLTXVideo) -> None:
    shares: list[float] = []
    side = WIDEST_UNTILED // vae.spatial_compression_ratio + 1
    decode(vae, latent(1, side, 1), 0.05, shares.append)
    assert shares[-1] == pytest.approx(1)
    assert len(shares) == 2 * len(block_costs(vae.decoder))


def test_a_block_costs_its_convolutions_at_every_position(vae: AutoencoderKLLTXVideo) -> None:
    """Counted on the real decoder: each convolution's weights times the positions of its result."""
    counted = dict.fromkeys(block_costs(vae.decoder), 0.0)
    hooks = [
        module.register_forward_hook(
            lambda module, args, out, block=block: counted.__setitem__(
                block, counted[block] + module.weight.numel() * out[0, 0].numel()
            )
        )
        for block in counted
        for module in block.modules()
        if isinstance(module, torch.nn.Conv3d)
    ]
    with torch.inference_mode():
        decode(vae, latent(4, 4, 8), 0.05)
    for hook in hooks:
        hook.remove()
    ratios = [counted[block] / cost for block, cost in block_costs(vae.decoder).items()]
    # A decoder drops the first frames after it doubles them, so the positions are slightly fewer.
    assert min(ratios) > 0.75 * max(ratios)


@torch.inference_mode()
def test_a_callback_stops_the_decoding_and_is_not_called_later(vae: AutoencoderKLLTXVideo) -> None:
    shares: list[float] = []

    def stop(share: float) -> None:
        shares.append(share)
        raise Cancelled

    with pytest.raises(Cancelled):
        decode(vae, latent(2, 2), 0.05, stop)
    decode(vae, latent(2, 2), 0.05)
    assert len(shares) == 1
