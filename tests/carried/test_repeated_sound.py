"""The period of a sound that repeats itself, and new sound that repeats it on."""

import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.carried.repeated_sound import RepeatedSound
from longtake.media.formats import SOUND_RATE
from longtake.media.sound import FADE_SAMPLES, Samples

Wave = NDArray[np.float64]

SCALE = (262, 294, 330, 349, 392, 440, 494, 523)


def sound(wave: Wave) -> Samples:
    return np.stack([wave, 0.5 * wave]).astype(np.float32)


def seconds(length: float) -> Wave:
    return np.arange(round(length * SOUND_RATE)) / SOUND_RATE


def beeps(length: float, period: float = 0.5, start: float = 0.0, lasting: float = 0.03) -> Wave:
    """Bursts of 1 kHz at -21 dB."""
    since = (seconds(length) - start) % period
    wave: Wave = 0.126 * np.sin(2 * np.pi * 1000 * since) * (since < lasting)
    return wave


def beeps_at(*starts: float) -> Wave:
    times = seconds(5)
    wave: Wave = np.sum([beeps(5, 5, start) * (times >= start) for start in starts], axis=0)
    return wave


def noise(length: float, scale: float) -> Wave:
    return np.random.default_rng(4).normal(0, scale, round(length * SOUND_RATE))


def melody(*, played: bool) -> Wave:
    """Twelve notes of 0.4 s, of a scale up and down. Or one note, played in time only roughly."""
    random, notes = np.random.default_rng(1), [*SCALE, *SCALE[6:2:-1]]
    waves = []
    for pitch in [440] * 12 if played else notes:
        times = seconds(0.4 * (1 + 0.03 * random.normal() * played))
        tone = sum(np.sin(2 * np.pi * pitch * part * times) / part for part in range(1, 5))
        waves.append(0.15 * np.exp(-3 * times) * tone)
    whole: Wave = np.concatenate(waves)
    return whole


def speech() -> Wave:
    """A voice whose pitch and formants move, in syllables of 0.2 s."""
    times = seconds(4)
    pitch = 120 + 15 * np.sin(2 * np.pi * 0.7 * times) - 5 * times
    phase = 2 * np.pi * np.cumsum(pitch) / SOUND_RATE
    formant = 600 + 300 * np.sin(2 * np.pi * 1.3 * times)
    parts = [np.exp(-(((part * pitch - formant) / 400) ** 2)) * np.sin(part * phase) for part in range(1, 12)]
    voice: Wave = 0.1 * np.sin(np.pi * times / 0.2) ** 2 * np.sum(parts, axis=0)
    return voice


def clicks(length: float, period: float) -> Wave:
    since = seconds(length) % period
    wave: Wave = 0.3 * np.exp(-since * 250) * np.sin(2 * np.pi * 2500 * since)
    return wave


LOOP = np.tile(np.convolve(noise(0.3, 0.2), np.ones(8) / 8, "same"), 10)


@pytest.mark.parametrize(
    ("wave", "period"),
    [
        (beeps(1.32), 0.5),
        (beeps(5, start=0.21), 0.5),
        (beeps(4.7, 1.5, lasting=0.1), 1.5),
        (beeps(3, 1, lasting=0.5), 1),
        (clicks(3, 60 / 130), 60 / 130),
        (clicks(3, 0.1), 0.1),
        (LOOP, 0.3),
        (beeps(5) + noise(5, 0.003), 0.5),
        (np.concatenate([speech(), beeps(2.5)]), 0.5),
    ],
    ids=["1.3 s", "5 s", "slow", "an alarm", "metronome", "10 a second", "engine", "over noise", "begun late"],
)
def test_a_sound_that_repeats_itself_has_a_period(wave: Wave, period: float) -> None:
    found = RepeatedSound.of(sound(wave))
    assert found is not None
    assert found.period / SOUND_RATE == pytest.approx(period, abs=1e-5)
    assert found.likeness > 0.9


@pytest.mark.parametrize(
    "wave",
    [
        speech(),
        melody(played=False),
        melody(played=True),
        noise(5, 0.1),
        noise(5, 0.002) + 0.02,
        beeps_at(0.2, 0.9, 1.3, 2.4, 2.9, 3.1, 4.2, 4.7),
        np.concatenate([beeps(6), np.zeros(round(1.1 * SOUND_RATE))]),
        0.2 * np.sin(2 * np.pi * (300 * seconds(5) + 40 * seconds(5) ** 2)),
        0.2 * np.exp(-2 * seconds(5)) * np.sin(2 * np.pi * 440 * seconds(5)),
        beeps(0.9, 0.3),
        np.zeros(2 * SOUND_RATE),
    ],
    ids=[
        "speech",
        "melody",
        "played",
        "noise",
        "noise with an offset",
        "irregular",
        "ended",
        "chirp",
        "fading",
        "short",
        "silence",
    ],
)
def test_other_sound_has_none(wave: Wave) -> None:
    assert RepeatedSound.of(sound(wave)) is None


def test_an_empty_sound_has_none() -> None:
    assert RepeatedSound.of(np.zeros((2, 0), np.float32)) is None


@pytest.mark.parametrize(
    ("whole", "known", "error"),
    [
        (beeps(6, start=0.1), 1.32, 1e-4),
        (beeps(6, start=0.1)[::-1], 1.4, 1e-4),
        (clicks(6, 60 / 130), 3, 0.2),
        (np.tile(LOOP, 2), 3, 0.1),
    ],
    ids=["beeps", "backwards", "metronome", "engine"],
)
def test_it_goes_on_in_phase_at_its_level(whole: Wave, known: float, error: float) -> None:
    true, own = sound(whole), round(known * SOUND_RATE)
    repeated = RepeatedSound.of(true[:, :own])
    assert repeated is not None
    made = repeated.continued(true[:, :own], true.shape[1] - own)
    assert made.shape == true.shape
    assert made.dtype == np.float32
    assert np.array_equal(made[:, : own - FADE_SAMPLES], true[:, : own - FADE_SAMPLES])
    assert np.square(made - true).mean() < error**2 * np.square(true).mean()


def test_a_repetition_begins_without_a_click() -> None:
    hum = 0.2 * np.sin(2 * np.pi * 50.31 * seconds(4))
    source = sound(hum + beeps(4))[:, : 2 * SOUND_RATE + 700]
    made = RepeatedSound(24_000, 0.9).continued(source, 2 * SOUND_RATE)
    steps = np.abs(np.diff(sound(hum)))
    assert np.abs(np.diff(made - sound(beeps(6))[:, : made.shape[1]])).max() < 2 * steps.max()
