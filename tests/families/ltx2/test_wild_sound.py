"""Any source's sound, the whole way from the file to the model's tokens."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from longtake.families.ltx2.audio import encode_sound
from longtake.families.ltx2.mel import MODEL_RATE, log_mel, resample
from longtake.media.formats import SOUND_RATE
from longtake.media.limits import Limits
from longtake.media.probe import probe
from longtake.media.sniff import sniff
from longtake.media.sound import num_samples
from longtake.media.sound_reader import sound
from longtake.media.source import open_source
from tests.families.ltx2.small_audio import small_audio_vae
from tests.media.clips import Clip, Tone

PCM = Tone(codec="pcm_s16le", onset_s=0)
FRAMES = 24

LAYOUTS = ("mono", "stereo", "2.1", "3.0", "quad", "5.0", "5.1", "5.1(side)", "6.1", "7.1", "7.1(wide)", "22.2")
RATES = (8000, 11_025, 16_000, 22_050, 32_000, 44_100, 47_999, 48_000, 96_000)

WILD = {
    **{f"{layout} in {suffix}": (suffix, replace(PCM, layout=layout)) for layout in LAYOUTS for suffix in ("mkv",)},
    **{f"{layout} in mov": ("mov", replace(PCM, layout=layout)) for layout in ("mono", "5.1", "7.1")},
    **{f"{rate} Hz": ("mov", replace(PCM, rate=rate)) for rate in RATES},
    "aac 5.1": ("mp4", replace(PCM, codec="aac", layout="5.1")),
    "aac 7.1 44.1 kHz": ("mp4", replace(PCM, codec="aac", layout="7.1", rate=44_100)),
    "aac mono 8 kHz": ("mp4", replace(PCM, codec="aac", layout="mono", rate=8000)),
    "opus 5.1": ("mkv", replace(PCM, codec="libopus", layout="5.1")),
    "ac3": ("mkv", replace(PCM, codec="ac3", layout="5.1(side)")),
    "mp3 mono": ("mkv", replace(PCM, codec="libmp3lame", layout="mono", rate=22_050)),
    "8 bits": ("avi", replace(PCM, codec="pcm_u8", layout="mono", rate=11_025)),
    "telephone": ("avi", replace(PCM, codec="pcm_mulaw", layout="mono", rate=8000)),
    "longer than the picture": ("mov", replace(PCM, seconds=2.5)),
}

MIXED = {
    **dict.fromkeys(("2.1", "3.0", "quad"), 1 + 0.5**0.5),
    **dict.fromkeys(("5.0", "5.1", "5.1(side)", "6.1", "7.1", "7.1(wide)"), 2.0),
}
"""Layout -> the level in stereo of a tone that all channels have: the sum of the weights of ITU-R BS.775, but at most
full scale, which is twice the level of these tones. Plain PCM in Matroska has the usual layout of three channels for
2.1."""


@pytest.fixture(scope="module")
def audio_vae() -> Any:
    return small_audio_vae()


def read_here(path: Path) -> NDArray[np.float32]:
    """Reads a file's sound as a decode process does, but in this process, which need not start."""
    video = probe(path, sniff(path), Limits())
    length = num_samples(FRAMES, video.facts.rate)
    return np.concatenate(list(sound(video, 0, length, SOUND_RATE, length)), axis=1)


@pytest.mark.parametrize("name", WILD)
def test_every_sound_comes_in(tmp_path: Path, audio_vae: Any, name: str) -> None:
    """A tone of 1 kHz at half of full scale is that to the model, whatever it was stored in, or as loud as its mix."""
    suffix, tone = WILD[name]
    path = Clip(f"a.{suffix}", FRAMES, (64, 48), options=(("preset", "ultrafast"),), sound=tone).write(tmp_path)
    samples = read_here(path)
    assert samples.shape == (2, num_samples(FRAMES, Fraction(24)))
    tokens = encode_sound(audio_vae, samples, SOUND_RATE)
    assert tokens.shape == (1, 26, 8)
    assert tokens.isfinite().all()
    plain = torch.from_numpy(replace(PCM, rate=MODEL_RATE).samples())
    heard = log_mel(resample(torch.from_numpy(samples), SOUND_RATE, MODEL_RATE))[:, 20:80]
    wanted = log_mel(plain * MIXED.get(tone.layout, 1.0))[:, 20:80]
    loudest = int(wanted[0, 0].argmax())
    assert (heard.argmax(-1) == loudest).all()
    assert (heard - wanted)[..., loudest].abs().max() < 0.1


SHORT = {
    "shorter than the picture": (replace(PCM, seconds=0.4), 0.0, 0.4),
    "of a few samples": (replace(PCM, seconds=0.002), 0.0, 0.002),
    "beginning late": (replace(PCM, seconds=0.3, start_s=0.5), 0.5, 0.8),
}


@pytest.mark.parametrize("name", SHORT)
def test_where_a_source_has_no_sound_the_model_hears_silence(tmp_path: Path, audio_vae: Any, name: str) -> None:
    tone, begins_s, ends_s = SHORT[name]
    path = Clip("a.mov", FRAMES, (64, 48), options=(("preset", "ultrafast"),), sound=tone).write(tmp_path)
    with open_source(path) as source:
        samples = source.sound(Fraction(0), Fraction(1))
    assert samples is not None
    assert encode_sound(audio_vae, samples, SOUND_RATE).shape == (1, 26, 8)
    heard = np.abs(samples).max(axis=0) > 0.05
    assert heard.sum() > 0.5 * (ends_s - begins_s) * SOUND_RATE
    assert not heard[: round(begins_s * SOUND_RATE)].any()
    assert not heard[round(ends_s * SOUND_RATE) + 1 :].any()


def test_a_source_without_sound_has_none(tmp_path: Path) -> None:
    with open_source(Clip("a.mp4", FRAMES, (64, 48)).write(tmp_path)) as source:
        assert source.sound(Fraction(0), Fraction(1)) is None
