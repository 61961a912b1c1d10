"""Between sound and the audio model's tokens.

Where in time things are: log-mel frame i is centred on i * 0.01 s; audio latent i stands for the frames
[max(4i - 3, 0), 4i + 1), that is for [max(4i - 3, 0), 4i + 1) * 0.01 s (the first latent is one frame: encoder and
decoder are causal); the vocoder turns frame i into the samples of [i, i + 1) * 0.01 s. So sample k of a decoded sound
is heard k / 48000 s after the window's beginning, as sample k of an encoded one was, and T latents make 4T - 3 frames.
"""

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
    """Stereo samples [2, n] in -1..1 as normalised audio tokens [1, T, C] float32 on `device`, C = (channel, bin).

    T = 1 + floor(n / 640) at 16 kHz, 25 per second: the latents whose last frame is centred within the sound. The
    posterior's mode is used, so that the same sound always gives the same tokens.
    """
    heard = resample(torch.from_numpy(np.ascontiguousarray(samples)).to(device).float(), sound_rate, MODEL_RATE)
    mel = log_mel(heard, audio_vae.config.mel_bins)[None]
    latent = audio_vae.encode(mel.to(audio_vae.dtype)).latent_dist.mode()
    mean, std = _statistics(audio_vae, latent.device)
    tokens: Tensor = (latent.float().transpose(1, 2).flatten(2) - mean) / std
    return tokens


def decode_sound(audio_vae: Any, vocoder: Any, tokens: Tensor, length: int | None = None) -> NDArray[np.float32]:
    """Normalised audio tokens [1, T, C] as stereo samples [2, n] float32 at SOUND_RATE.

    n = (4T - 3) * 480, or `length`: what is over is cut off, and where the tokens end before it, as the last of a
    window may by 50 ms, the last spectrum is held.
    """
    mean, std = _statistics(audio_vae, tokens.device)
    latent = (tokens.float() * std + mean).unflatten(2, (audio_vae.config.latent_channels, -1)).transpose(1, 2)
    # Not in pieces: a vocoder that adds up phase hears everything before, and 20 s need less than 1 GB.
    mel = audio_vae.decode(latent.to(audio_vae.dtype)).sample.float()
    frames = mel.shape[2] if length is None else -(-length * 100 // SOUND_RATE)
    mel = functional.pad(mel, (0, 0, 0, max(0, frames - mel.shape[2])), mode="replicate")
    # The vocoder sums thousands of waves: in half precision their rounding is heard as noise.
    wave = vocoder.float()(mel)[0]
    wave = resample(wave, vocoder.config.output_sampling_rate, SOUND_RATE)[:, :length]
    sound: NDArray[np.float32] = wave.cpu().numpy()
    return sound


def _statistics(audio_vae: Any, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of tokens [C]."""
    return audio_vae.latents_mean.to(device).float(), audio_vae.latents_std.to(device).float()
