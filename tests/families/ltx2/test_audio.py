"""Sound to tokens and back: the published models' numbers, exact lengths, and where in time each token is."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from bench.oracle import parts
from longtake.families.ltx2.audio import decode_sound, encode_sound
from longtake.families.ltx2.mel import HOP, WINDOW
from tests.conftest import load_case
from tests.families.ltx2.small_audio import small_audio_vae, small_vocoder


def hiss(length: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.1, (2, length)).astype(np.float32)


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def audio_vae() -> Any:
    return small_audio_vae()


@pytest.fixture(scope="module")
def vocoder() -> Any:
    """With small kernels, to be quick."""
    return small_vocoder(
        resnet_kernel_sizes=[3], resnet_dilations=[[1]], bwe_resnet_kernel_sizes=[3], bwe_resnet_dilations=[[1]]
    )


def spectrum(audio_vae: Any, tokens: Tensor) -> Tensor:
    latent = (tokens * audio_vae.latents_std + audio_vae.latents_mean).unflatten(2, (2, 4)).transpose(1, 2)
    mel: Tensor = audio_vae.decode(latent).sample
    return mel


def test_a_gpu_does_not_round_sound_to_tf32(audio_vae: Any, vocoder: Any) -> None:
    cudnn: Any = torch.backends.cudnn
    before, seen = cudnn.conv.fp32_precision, set[tuple[str, str]]()

    def noted(module: torch.nn.Module, _: Any) -> None:
        seen.add((type(module).__name__, cudnn.conv.fp32_precision))

    modules = (audio_vae.encoder, audio_vae.decoder, vocoder)
    hooks = [module.register_forward_pre_hook(noted) for module in modules]
    decode_sound(audio_vae, vocoder, encode_sound(audio_vae, hiss(8000), 16_000))
    for hook in hooks:
        hook.remove()
    assert seen == {(type(module).__name__, "ieee") for module in modules}
    assert cudnn.conv.fp32_precision == before


def test_tokens_are_the_reference_s(oracle: Path) -> None:
    case = load_case(oracle, "ltx2_mel")
    if not (oracle / "weights" / "ltx2_audio_vae.safetensors").exists():
        pytest.skip("the oracle's audio autoencoder is not in the set at hand")
    case.check_all(parts.sound(case))


def test_models_are_the_reference_s(oracle: Path) -> None:
    """A guard on the library: a later version that computes something else fails here by name."""
    for name, compute in (("ltx2_audio_vae", parts.audio_vae), ("ltx2_vocoder", parts.vocoder)):
        case = load_case(oracle, name)
        case.check_all(compute(case))


def test_decoding_is_decoder_then_vocoder(audio_vae: Any, vocoder: Any) -> None:
    tokens = draw(1, 12, 8)
    wanted = vocoder(spectrum(audio_vae, tokens))[0].numpy()
    got = decode_sound(audio_vae, vocoder, tokens)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, atol=1e-6)


@settings(max_examples=20)
@given(st.integers(1, 40_000), st.sampled_from([8000, 16_000, 22_050, 44_100, 48_000, 96_000]))
def test_as_many_tokens_as_end_within_the_sound(audio_vae: Any, length: int, rate: int) -> None:
    tokens = encode_sound(audio_vae, hiss(length), rate)
    assert tokens.shape == (1, -(-length * 16_000 // rate) // 640 + 1, 8)
    assert tokens.isfinite().all()


@settings(max_examples=8)
@given(st.integers(1, 6), st.integers(1, 14_000))
def test_a_length_is_kept(audio_vae: Any, vocoder: Any, latents: int, length: int) -> None:
    tokens = draw(1, latents, 8)
    assert decode_sound(audio_vae, vocoder, tokens).shape == (2, (4 * latents - 3) * 480)
    assert decode_sound(audio_vae, vocoder, tokens, length).shape == (2, length)


def test_the_last_spectrum_is_held_where_the_tokens_end_early(audio_vae: Any, vocoder: Any) -> None:
    tokens = draw(1, 12, 8)
    mel = spectrum(audio_vae, tokens)
    longer = torch.cat([mel, mel[:, :, -1:].expand(-1, -1, 5, -1)], 2)
    got = decode_sound(audio_vae, vocoder, tokens, 49 * 480 + 17)
    np.testing.assert_allclose(got, vocoder(longer)[0, :, : 49 * 480 + 17].numpy(), atol=1e-6)


def test_a_vocoder_of_another_rate_is_resampled(audio_vae: Any) -> None:
    other = small_vocoder(24_000)
    tokens = draw(1, 10, 8)
    got, own = decode_sound(audio_vae, other, tokens), other(spectrum(audio_vae, tokens))[0].numpy()
    assert got.shape == (2, 37 * 480)
    assert own.shape == (2, 37 * 240)
    assert np.abs(got[:, 200:-200:2] - own[:, 100:-100]).max() < 0.1 * np.abs(own).max()


@pytest.mark.parametrize("latent", [0, 1, 5, 9])
def test_a_latent_hears_no_further_than_its_own_frames(audio_vae: Any, latent: int) -> None:
    """Latent i ends with frame 4i, and that frame's window reaches half its length further."""
    samples = hiss(16_000)
    ends = 4 * latent * HOP + WINDOW // 2
    later, within = samples.copy(), samples.copy()
    later[:, ends:] = 0
    within[:, max(0, ends - WINDOW // 2 - HOP // 2) :] = 0
    tokens = encode_sound(audio_vae, samples, 16_000)[0]
    assert (encode_sound(audio_vae, later, 16_000)[0] - tokens)[: latent + 1].abs().max() < 1e-5
    assert (encode_sound(audio_vae, within, 16_000)[0] - tokens)[latent].abs().max() > 1e-3


@pytest.mark.parametrize("latent", [1, 5, 9])
def test_a_latent_is_heard_from_its_first_frame_on(audio_vae: Any, latent: int) -> None:
    tokens = draw(1, 12, 8)
    changed = tokens.clone()
    changed[:, latent] += 1
    frames = (spectrum(audio_vae, changed) - spectrum(audio_vae, tokens)).abs().amax((0, 1, 3))
    assert frames[: 4 * latent - 3].max() < 1e-5
    assert frames[4 * latent - 3] > 1e-3


@pytest.mark.parametrize("frame", [20, 30, 40])
def test_the_vocoder_keeps_the_time(vocoder: Any, frame: int) -> None:
    """What a frame changes is heard around its own hundredth of a second."""
    mel = draw(1, 2, 60, 16) * 0.5 - 5
    louder = mel.clone()
    louder[:, :, frame] += 1
    energy = (vocoder(louder) - vocoder(mel)).square().sum((0, 1))
    centre_s = (energy * torch.arange(len(energy))).sum() / energy.sum() / 48_000
    assert abs(centre_s.item() - (frame + 0.5) / 100) < 0.01


def test_the_vocoder_computes_in_full_precision(audio_vae: Any, vocoder: Any) -> None:
    halved = copy.deepcopy(vocoder).bfloat16()
    exact = copy.deepcopy(halved).float()
    tokens = draw(1, 5, 8)
    np.testing.assert_array_equal(decode_sound(audio_vae, halved, tokens), decode_sound(audio_vae, exact, tokens))


def test_a_model_in_half_precision_takes_sound(audio_vae: Any, vocoder: Any) -> None:
    halved = copy.deepcopy(audio_vae).bfloat16()
    tokens = encode_sound(halved, hiss(8000), 16_000)
    assert tokens.dtype == torch.float32
    assert (tokens - encode_sound(audio_vae, hiss(8000), 16_000)).std() < 0.05
    assert np.isfinite(decode_sound(halved, vocoder, tokens)).all()
