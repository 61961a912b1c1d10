"""Encodes sound as tokens of the audio model, and decodes tokens to sound.

All times count from the start of the sound. Log-mel frame i is centred on i * 0.01 s. The encoder and the decoder are
causal: the first audio latent covers one log-mel frame, and each later one covers four. So T latents cover 4T - 3
log-mel frames, and latent i covers the log-mel frames max(4i - 3, 0) to 4i. The vocoder turns log-mel frame i into the
samples from i * 0.01 s to (i + 1) * 0.01 s.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from longtake.families.ltx2.mel import MODEL_RATE, log_mel, resample
from longtake.media.formats import SOUND_RATE


def encode_sound(
    audio_vae: Any, samples: NDArray[np.float32], sound_rate: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Returns the normalised audio tokens [1, T, C] float32 of a stereo sound, on `device`.

    `audio_vae`: diffusers' AutoencoderKLLTX2Audio.
    `samples`: the sound, [2, n] in -1..1.
    `sound_rate`: the sample rate of `samples` in Hz.

    There are about 25 tokens per second: T = 1 + floor(m / 640), where m is the number of samples after resampling to
    16 kHz. A token has the values of all mel bins of the first latent channel, then those of the second channel, and so
    on. The same sound always gives the same tokens, because the mode of the VAE's distribution is used.
    """
    resampled = resample(torch.from_numpy(np.ascontiguousarray(samples)).to(device).float(), sound_rate, MODEL_RATE)
    mel = log_mel(resampled, audio_vae.config.mel_bins)[None]
    with _exact_convolutions():
        latent = audio_vae.encode(mel.to(audio_vae.dtype)).latent_dist.mode()
    mean, std = _statistics(audio_vae, latent.device)
    tokens: Tensor = (latent.float().transpose(1, 2).flatten(2) - mean) / std
    return tokens


def decode_sound(audio_vae: Any, vocoder: Any, tokens: Tensor, length: int | None = None) -> NDArray[np.float32]:
    """Decodes normalised audio tokens [1, T, C] to stereo samples [2, n] float32 in about -1..1 at 48 kHz (SOUND_RATE).

    `audio_vae`: diffusers' AutoencoderKLLTX2Audio.
    `vocoder`: diffusers' LTX2VocoderWithBWE, which turns log-mel frames into samples.
    `length`: the wanted number of samples n. A longer sound is cut. A shorter sound is extended by repeating its last
        log-mel frame: the model's sound may be up to 50 ms shorter than its frames. None for the sound's own length, n
        = (4T - 3) * 480.
    """
    mean, std = _statistics(audio_vae, tokens.device)
    latent = (tokens.float() * std + mean).unflatten(2, (audio_vae.config.latent_channels, -1)).transpose(1, 2)
    # The vocoder gets the whole sound at once, because it accumulates phase from the start. 20 s need less than 1 GB.
    with _exact_convolutions():
        mel = audio_vae.decode(latent.to(audio_vae.dtype)).sample.float()
    frames = mel.shape[2] if length is None else -(-length * 100 // SOUND_RATE)
    mel = functional.pad(mel, (0, 0, 0, max(0, frames - mel.shape[2])), mode="replicate")
    # The vocoder sums thousands of waves. In half precision their rounding errors would be audible as noise.
    with _exact_convolutions():
        wave = vocoder.float()(mel)[0]
    wave = resample(wave, vocoder.config.output_sampling_rate, SOUND_RATE)[:, :length]
    sound: NDArray[np.float32] = wave.cpu().numpy()
    return sound


@contextmanager
def _exact_convolutions() -> Iterator[None]:
    """Context manager: inside its block, convolutions on a CUDA GPU do not round float32 to TF32.

    By default torch lets them do so. TF32 has as many significant bits as float16: 11 instead of 24.
    """
    cudnn: Any = torch.backends.cudnn
    before = cudnn.conv.fp32_precision
    cudnn.conv.fp32_precision = "ieee"
    try:
        yield
    finally:
        cudnn.conv.fp32_precision = before


def _statistics(audio_vae: Any, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Returns the mean and the standard deviation with which audio tokens are normalised, [C] each, on `device`."""
    return audio_vae.latents_mean.to(device).float(), audio_vae.latents_std.to(device).float()
