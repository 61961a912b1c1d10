"""Resampling and log-mel spectrograms: the published recipe's numbers, and where in time things are."""

from math import ceil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.oracle import parts
from longtake.families.ltx2.mel import FLOOR, HOP, MODEL_RATE, log_mel, resample
from tests.conftest import load_case


def test_numbers_are_the_recipe_s(oracle: Path) -> None:
    case = load_case(oracle, "ltx2_mel")
    case.check_all(parts.mel(case))


@settings(max_examples=40)
@given(st.integers(0, 3000), st.sampled_from([8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000]))
def test_lengths(length: int, rate: int) -> None:
    samples = torch.ones(2, length)
    resampled = resample(samples, rate, MODEL_RATE)
    assert resampled.shape == (2, ceil(length * MODEL_RATE / rate))
    mel = log_mel(resampled)
    assert mel.shape == (2, 1 + resampled.shape[1] // HOP, 64)
    assert mel.isfinite().all()


def test_silence_is_the_floor() -> None:
    assert log_mel(torch.zeros(2, 5)).eq(torch.tensor(FLOOR).log()).all()


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000, 96_000])
def test_a_resampled_tone_is_that_tone(rate: int) -> None:
    def tone(at: int) -> torch.Tensor:
        return torch.sin(2 * torch.pi * 440 * torch.arange(at, dtype=torch.float64) / at).float()[None]

    inner = slice(100, -100)
    torch.testing.assert_close(resample(tone(rate), rate, 16_000)[:, inner], tone(16_000)[:, inner], rtol=0, atol=5e-3)


def test_what_is_above_the_band_is_gone() -> None:
    whistle = torch.sin(2 * torch.pi * 11_000 * torch.arange(48_000) / 48_000)[None]
    assert resample(whistle, 48_000, 16_000)[:, 200:-200].abs().max() < 1e-2


@pytest.mark.parametrize("frame", [0, 1, 7, 40, 99])
def test_frame_i_is_centred_on_a_hundredth_of_a_second(frame: int) -> None:
    """A click is loudest in the frame in whose middle it is, at any input rate."""
    for rate in (16_000, 44_100, 48_000):
        samples = torch.zeros(1, rate)
        samples[0, round(frame * rate / 100)] = 1
        assert log_mel(resample(samples, rate, MODEL_RATE)).exp().sum(-1)[0].argmax() == frame


@pytest.mark.parametrize("hertz", [100.0, 440.0, 1000.0, 3000.0, 7000.0])
def test_a_louder_tone_is_that_much_louder_and_a_higher_one_higher(hertz: float) -> None:
    tone = torch.sin(2 * torch.pi * hertz * torch.arange(16_000) / MODEL_RATE)[None]
    mel = log_mel(tone)[0, 50]
    torch.testing.assert_close(log_mel(4 * tone)[0, 50].max() - mel.max(), torch.tensor(4.0).log())
    higher = torch.sin(2 * torch.pi * (hertz + 200) * torch.arange(16_000) / MODEL_RATE)
    assert log_mel(higher)[50].argmax() > mel.argmax()
