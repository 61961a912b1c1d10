"""Statistics of latents: AdaIN and the tone map keep to what they promise."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.families.ltxv.colour import adain, tone_map


def latent(seed: int, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(1, 4, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * scale + shift


@given(st.integers(0, 50), st.floats(0.2, 4), st.floats(-3, 3))
def test_adain_takes_the_references_mean_and_spread(seed: int, scale: float, shift: float) -> None:
    own, reference = latent(seed, scale, shift), latent(seed + 1)
    matched = adain(own, reference)
    assert torch.allclose(matched.mean((2, 3, 4)), reference.mean((2, 3, 4)), atol=1e-4)
    assert torch.allclose(matched.std((2, 3, 4)), reference.std((2, 3, 4)), atol=1e-4)
    assert torch.equal(adain(own, reference, 0.0), own)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0])
def test_adain_of_a_flat_channel_takes_the_references_mean(factor: float) -> None:
    own, reference = torch.full((1, 4, 3, 4, 4), 2.0), latent(1)
    matched = adain(own, reference, factor)
    wanted = torch.lerp(own.mean((2, 3, 4)), reference.mean((2, 3, 4)), factor)
    assert torch.allclose(matched, wanted[..., None, None, None].expand_as(own), atol=1e-5)
    assert torch.allclose(adain(latent(1), own).std((2, 3, 4)), torch.zeros(1, 4), atol=1e-5)


@given(st.floats(0, 1))
def test_tone_mapping_shrinks_what_is_bright_and_keeps_its_sign(compression: float) -> None:
    values = latent(0, 3.0)
    mapped = tone_map(values, compression)
    assert bool((mapped.abs() <= values.abs() + 1e-6).all())
    assert bool((mapped.sign() == values.sign()).all())
    assert torch.equal(tone_map(values, 0.0), values)
