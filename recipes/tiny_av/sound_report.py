"""Measures how the audio autoencoder and the vocoder change a sound, and draws a picture of it.

    python -m recipes.tiny_av.sound_report [--picture docs/images/tiny_sound.webp]

Sounds of scenes that are never trained on are encoded and decoded with the package's functions, and compared with the
scenes' scores. The picture shows spectrograms up to 8 kHz: the original sounds above, the decoded ones below.
"""

import argparse
import math
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from longtake.families.ltx2.audio import decode_sound, encode_sound
from longtake.families.ltx2.mel import log_mel, resample
from recipes.tiny.world import Kind, Scene, sample
from recipes.tiny_av import audio_vae, vocoder
from recipes.tiny_av.sound import listen, play, score
from recipes.tiny_av.sound_configs import FULL_RATE, SOUND_RATE

SEED = 930_000_000
KINDS: tuple[Kind, ...] = ("straight", "shapes", "bounce", "pan", "zoom", "pair")
PER_KIND = 8
SECONDS = 4.0
RATE = 24.0
SHOWN: tuple[tuple[Kind, int], ...] = (("straight", 2), ("shapes", 1), ("bounce", 3), ("pair", 4))
INK = torch.tensor([[0, 0, 8], [60, 20, 110], [180, 50, 100], [250, 150, 60], [255, 250, 200]], dtype=torch.float32)
"""Colours of a spectrogram from -100 dB to its loudest."""


@dataclass(frozen=True)
class Figures:
    """The figures of one scene.

    mel: the mean error of the log-mel spectrogram after the autoencoder.
    pitch: the error of the pitch of the first object's voice, as a ratio, every 10 ms, `[T]`.
    level: the error of its loudness in dB, `[T]`.
    pan: the error of its place between left (-1) and right (1), `[T]`.
    above: the power above 8 kHz relative to the whole power, in dB.
    """

    mel: float
    pitch: Tensor
    level: Tensor
    pan: Tensor
    above: float


def scene_of(kind: Kind, i: int) -> Scene:
    """Returns the scene number `i` (from 0) of a kind, among the kind's scenes that have an object."""
    first, count = SEED + 100 * KINDS.index(kind), round(SECONDS * RATE)
    scenes = (sample(first + k, kind, num_frames=count) for k in range(100))
    return next(islice((scene for scene in scenes if scene.things), i, None))


def truth(scene: Scene) -> Tensor:
    """Returns a scene's own sound, `[2, n]` at 16 kHz."""
    return play(score(scene, SECONDS, RATE), round(SECONDS * SOUND_RATE), seed=scene.texture_seed)


@torch.no_grad()
def again(wave: Tensor, vae: Any, voc: Any) -> Tensor:
    """Returns a sound `[2, n]` at 16 kHz after the autoencoder and the vocoder: `[2, 3 n]` at 48 kHz."""
    tokens = encode_sound(vae, wave.numpy(), SOUND_RATE)
    return torch.from_numpy(decode_sound(vae, voc, tokens, wave.shape[1] * FULL_RATE // SOUND_RATE))


@torch.no_grad()
def figures(scene: Scene, vae: Any, voc: Any) -> Figures:
    """Returns the figures of one scene."""
    wave, curves = truth(scene), score(scene, SECONDS, RATE)
    made = again(wave, vae, voc)
    mel = log_mel(wave)
    coded = audio_vae.spectrogram_of(audio_vae.tokens_of(wave, vae), vae)
    frames = min(mel.shape[1], coded.shape[1])
    spectrum = torch.fft.rfft(made).abs().square().sum(0)
    edge = round(8000 / FULL_RATE * made.shape[1])
    above = 10 * math.log10(float(spectrum[edge:].sum() / spectrum.sum()) + 1e-12)
    true, heard = listen(wave), listen(resample(made, FULL_RATE, SOUND_RATE))
    count = min(len(true.pitch), len(heard.pitch))
    # Compare only where the first object's voice is the strongest sound. At the edges of the frame or in a hum it may
    # not be.
    named = curves.pitch[0, 0 : 2 * count : 2]
    sung = (true.pitch[:count] / named - 1).abs() < 0.01
    sung[:5], sung[-5:] = False, False
    return Figures(
        mel=float((mel[:, :frames] - coded[:, :frames]).abs().mean()),
        pitch=torch.nan_to_num(heard.pitch[:count] / named - 1, 1.0)[sung].abs(),
        level=(heard.level[:count] - true.level[:count])[5:-5],
        pan=(heard.pan[:count] - true.pan[:count])[sung].abs(),
        above=above,
    )


def report() -> None:
    """Prints the figures of each kind, and the time that encoding and decoding need."""
    vae, voc = audio_vae.load(), vocoder.load()
    for model in (vae, voc):
        model.half().float()
    for kind in KINDS:
        found = [figures(scene_of(kind, i), vae, voc) for i in range(PER_KIND)]
        pitch, pan = torch.cat([f.pitch for f in found]), torch.cat([f.pan for f in found])
        level = torch.cat([f.level for f in found])
        print(
            f"{kind:9} mel {sum(f.mel for f in found) / len(found):.3f}  pitch median {100 * pitch.median():.2f} %, "
            f"9 of 10 within {100 * pitch.quantile(0.9):.2f} %  level median {level.abs().median():.2f} dB, "
            f"9 of 10 within {level.abs().quantile(0.9):.2f} dB, mean {level.mean():+.2f} dB  "
            f"pan {pan.median():.3f}  above 8 kHz {max(f.above for f in found):.0f} dB"
        )
    wave = torch.randn(2, SOUND_RATE) * 0.1
    tokens = torch.zeros(1, 126, vae.config.base_channels)
    for name, call in (
        ("encode 1 s", lambda: encode_sound(vae, wave.numpy(), SOUND_RATE)),
        ("decode 5 s", lambda: decode_sound(vae, voc, tokens)),
    ):
        with torch.no_grad():
            call()
            began = time.process_time()
            call()
        print(f"{name}: {time.process_time() - began:.3f} s of one core")


def _spectrogram(wave: Tensor) -> Tensor:
    """Returns the picture of a sound's spectrogram, from 8 kHz (top) down to 0: `[256, T, 3]` uint8."""
    spectrum = torch.stft(wave.mean(0), 1024, 160, window=torch.hann_window(1024), return_complex=True).abs()
    loud = (spectrum[:512] / 256).clamp(min=1e-5).log10().unflatten(0, (256, 2)).amax(1).flip(0)
    shade = ((loud + 5) / 4.5).clamp(0, 1) * (len(INK) - 1)
    low = shade.long().clamp(max=len(INK) - 2)
    part = (shade - low)[..., None]
    inked: Tensor = INK[low] * (1 - part) + INK[low + 1] * part
    return inked.round().byte()


@torch.no_grad()
def picture() -> Image.Image:
    """Returns a picture of two rows of spectrograms: the scenes' own sounds, and below them the decoded ones."""
    vae, voc = audio_vae.load(), vocoder.load()
    columns = []
    for kind, i in SHOWN:
        wave = truth(scene_of(kind, i))
        made = resample(again(wave, vae, voc), FULL_RATE, SOUND_RATE)
        gap = torch.full((6, 401, 3), 255, dtype=torch.uint8)
        column = torch.cat([_spectrogram(wave)[:, :401], gap, _spectrogram(made)[:, :401]])
        columns += [column, torch.full((len(column), 6, 3), 255, dtype=torch.uint8)]
    return Image.fromarray(torch.cat(columns[:-1], 1).numpy())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=Path)
    torch.set_num_threads(1)
    path = parser.parse_args().picture
    if path is None:
        report()
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture().save(path, quality=80, method=6)
