"""The sound of the toy world, and the parts that hear and make it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLLTX2Audio
from diffusers.pipelines.ltx2.vocoder import LTX2VocoderWithBWE
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longtake.families.ltx2.audio import decode_sound, encode_sound
from recipes.tiny.world import Scene, Thing, sample
from recipes.tiny_av import sound_clips, wiring
from recipes.tiny_av.audio_vae import tokens_of
from recipes.tiny_av.configs import WEIGHTS
from recipes.tiny_av.sound import PITCHES, SECOND, Score, listen, play, score, sound
from recipes.tiny_av.sound_configs import AUDIO_TOKEN, AUDIO_VAE, FULL_RATE, MEL_BINS, SOUND_RATE
from recipes.tiny_av.vocoder import folded, new, unfolded

RATE = 24.0


def scene(*things: Thing, texture: str = "plain") -> Scene:
    """A scene of 64 x 64 with these things, 48 frames long."""
    bare = sample(3, "empty", num_frames=48)
    return replace(bare, kind="straight", texture=texture, things=things)


def thing(x: float, y: float, shape: str = "circle", radius: float = 10.5, **more: Any) -> Thing:
    return Thing(shape, "red", (1.0, -1.0, -1.0), radius, (x, y), more.pop("velocity", (0.0, 0.0)), 0.0, **more)


def middle(values: Tensor) -> float:
    return float(values[20:-20].nanmedian())


@pytest.mark.parametrize(("y", "hertz"), [(-32.0, PITCHES[1]), (32.0, PITCHES[0]), (0.0, (220 * 900) ** 0.5)])
def test_pitch_is_height(y: float, hertz: float) -> None:
    heard = listen(sound(scene(thing(0, y)), 48, RATE))
    assert middle(heard.pitch) == pytest.approx(hertz, rel=2e-3)


def test_a_second_thing_sings_two_octaves_higher() -> None:
    both = sound(scene(thing(0, 0), thing(-10, 0)), 48, RATE)
    heard = listen(both, band=(1100.0, 4000.0))
    assert middle(heard.pitch) == pytest.approx(SECOND * (220 * 900) ** 0.5, rel=2e-3)
    assert middle(heard.pan) < -0.1


def test_pan_is_place_and_loudness_is_size() -> None:
    pans = [middle(listen(sound(scene(thing(x, 0)), 48, RATE)).pan) for x in (-20.0, 0.0, 20.0)]
    assert pans[0] == pytest.approx(-0.5, abs=0.02)
    assert pans[1] == pytest.approx(0.0, abs=0.02)
    assert pans[2] == pytest.approx(0.5, abs=0.02)
    levels = [middle(listen(sound(scene(thing(0, 0, radius=r)), 48, RATE)).level) for r in (8.0, 13.0)]
    assert levels[1] - levels[0] == pytest.approx(30 * torch.tensor(13 / 8).log10().item(), abs=0.2)


def test_a_rising_thing_glides_without_a_jump() -> None:
    wave = sound(scene(thing(0, 25, velocity=(0.0, -1.0))), 48, RATE)
    pitch = listen(wave).pitch[10:-10]
    assert bool((pitch.diff() > 0).all())
    assert float(wave.diff(dim=-1).abs().max()) < 0.2 * 2 * torch.pi * PITCHES[1] / SOUND_RATE


def test_both_rates_say_the_same() -> None:
    moving = scene(thing(0, 20, "square", velocity=(0.5, -0.8)))
    low, high = sound(moving, 48, RATE), sound(moving, 48, RATE, FULL_RATE)
    assert low.shape == (2, 32_000)
    assert high.shape == (2, 96_000)
    torch.testing.assert_close(high[:, 2::3], low, atol=2e-2, rtol=0)


def test_bounces_thump() -> None:
    ball = scene(thing(0, 10, velocity=(0.0, 1.0), bounces=True))
    hit = (32 - 0.9 * 10.5 - 10) / RATE
    curves = score(ball, 2.0, RATE)
    assert float(curves.hum.argmax()) * 0.005 == pytest.approx(hit, abs=0.011)
    assert float(score(scene(thing(0, 10, velocity=(0.0, 1.0))), 2.0, RATE).hum.max()) == 0


@pytest.mark.parametrize(
    ("texture", "low", "high"), [("plain", -101, -99), ("clouds", -40, -25), ("stripes", -32, -20)]
)
def test_backgrounds(texture: str, low: float, high: float) -> None:
    level = middle(listen(sound(scene(texture=texture), 48, RATE)).level)
    assert low < level < high


def test_sounds_follow_from_their_seeds() -> None:
    for seed in range(5):
        assert sound_clips.clip(seed, 0.5).equal(sound_clips.clip(seed, 0.5))
        assert sound_clips.clip(seed, 0.5).shape == (2, 8000)
        assert bool(sound_clips.clip(seed, 0.5).isfinite().all())


@pytest.fixture(scope="module")
def wired() -> Any:
    torch.manual_seed(0)
    return new().half().float()


def steady(hertz: float, seconds: float = 2.0, brightness: float = 0.3, noise: float = 0.0) -> Score:
    """One voice that stays as it is, or the lowest noise."""
    count = round(seconds / 0.005) + 2
    one = torch.ones(1, count)
    hiss = torch.zeros(3, count)
    hiss[0] = noise
    loud = one * (0.0 if noise else 0.1)
    return Score(torch.arange(count) * 0.005, one * hertz, one * brightness, loud, loud * 0.5, hiss, torch.zeros(count))


@pytest.mark.parametrize("hertz", [231.0, 330.0, 450.0, 777.0])
def test_the_wired_part_holds_any_pitch(wired: Any, hertz: float) -> None:
    curves = steady(hertz)
    wave = wiring.voice_of(wired, wiring.targets(curves, 200))
    expected, heard = listen(play(curves, 32_000)), listen(wave)
    assert middle(heard.pitch) == pytest.approx(hertz, rel=1e-3)
    assert middle(heard.level) == pytest.approx(middle(expected.level), abs=0.3)
    assert middle(heard.pan) == pytest.approx(middle(expected.pan), abs=0.01)
    spectrum = torch.fft.rfft(wave[0, 8000:24_000] * torch.hann_window(16_000)).abs().square()
    for partial in range(1, 8):
        spectrum[round(partial * hertz) - 4 : round(partial * hertz) + 5] *= 1 if partial > 6 else 1e-9
    whole = float(torch.fft.rfft(wave[0, 8000:24_000] * torch.hann_window(16_000)).abs().square().sum())
    assert float(spectrum[20:].sum()) < 1e-4 * whole


def test_the_wired_part_is_silent_when_nothing_is_read(wired: Any) -> None:
    assert float(wiring.voice_of(wired, torch.zeros(12, 100)).abs().max()) < 1e-6


def test_wired_noise_has_its_level_and_does_not_repeat(wired: Any) -> None:
    wave = wiring.voice_of(wired, wiring.targets(steady(0.0, noise=0.05), 200))[0]
    assert float(wave.std()) == pytest.approx(0.05, rel=0.1)
    frames = wave.unflatten(0, (200, 160))
    alike = torch.nn.functional.cosine_similarity(frames[1:], frames[:-1])
    assert float(alike.abs().mean()) < 0.6
    assert abs(float(alike.mean())) < 0.3


def test_wiring_keeps_its_place() -> None:
    model = new()
    fixed = wiring.Wiring(model)
    before = {name: p.clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.add_(1.0)
    fixed.apply()
    for name, p in model.named_parameters():
        mask = fixed.fixed[name][0] if name in fixed.fixed else torch.zeros_like(p, dtype=torch.bool)
        assert p[mask].equal(before[name][mask])
        torch.testing.assert_close(p[~mask], before[name][~mask] + 1)


def test_tokens_have_one_width_for_model_and_statistics() -> None:
    vae: Any = AutoencoderKLLTX2Audio(**AUDIO_VAE)
    tokens = tokens_of(torch.zeros(2, 16_000), vae)
    assert tokens.shape == (26, AUDIO_TOKEN)
    assert vae.latents_mean.shape == (AUDIO_TOKEN,)


@pytest.fixture(scope="module")
def shipped() -> tuple[Any, Any]:
    if not (WEIGHTS / "vocoder").exists():
        pytest.skip(f"the embedded weights of the second family are not in {WEIGHTS}")
    vae = AutoencoderKLLTX2Audio.from_pretrained(WEIGHTS, subfolder="audio_vae", torch_dtype=torch.float32)
    return vae, LTX2VocoderWithBWE.from_pretrained(WEIGHTS, subfolder="vocoder", torch_dtype=torch.float32)


@pytest.mark.parametrize(("y", "shape"), [(-20.0, "circle"), (0.0, "square"), (17.0, "triangle")])
def test_the_embedded_parts_sing_back_what_they_hear(shipped: tuple[Any, Any], y: float, shape: str) -> None:
    wave = sound(scene(thing(12, y, shape), texture="gradient"), 48, RATE)
    made = torch.from_numpy(decode_sound(*shipped, encode_sound(shipped[0], wave.numpy(), SOUND_RATE), 96_000))
    expected, heard = listen(wave), listen(made, FULL_RATE)
    assert middle(heard.pitch) == pytest.approx(middle(expected.pitch), rel=0.01)
    assert middle(heard.level) == pytest.approx(middle(expected.level), abs=4.5)


@pytest.mark.parametrize("y", [-8.0, 0.0, 12.0])
def test_a_pure_tone_over_wind_gets_no_overtone(shipped: tuple[Any, Any], y: float) -> None:
    wave = sound(scene(thing(12, y, "circle"), texture="clouds"), 48, RATE)
    made = torch.from_numpy(decode_sound(*shipped, encode_sound(shipped[0], wave.numpy(), SOUND_RATE), 96_000))
    power = torch.fft.rfft(made.mean(0) * torch.hann_window(96_000)).abs().square()
    hertz = torch.fft.rfftfreq(96_000, 1 / FULL_RATE)
    pitch = middle(listen(wave).pitch)
    tone, overtone = (float(power[(hertz - k * pitch).abs() < 0.03 * pitch].sum()) for k in (1, 2))
    assert overtone < 10**-2.6 * tone


@given(st.integers(0, 2**31))
def test_weights_for_a_centred_spectrogram_are_folded_and_unfolded(seed: int) -> None:
    dice = torch.Generator().manual_seed(seed)
    weights = {
        "vocoder.conv_in.weight": torch.randn(3, 2 * MEL_BINS, 7, generator=dice),
        "vocoder.conv_in.bias": torch.randn(3, generator=dice),
    }
    back = folded(unfolded(weights))
    for name, value in weights.items():
        torch.testing.assert_close(back[name], value, rtol=1e-4, atol=1e-3)
