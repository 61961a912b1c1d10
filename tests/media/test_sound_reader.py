"""Reading sound: exact lengths, placed by timestamps, equal samples wherever reading starts."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from longtake.media.limits import Limits
from longtake.media.probe import ProbedVideo, probe
from longtake.media.sniff import sniff
from longtake.media.sound_reader import sound
from longtake.video import SoundInfo
from tests import raw
from tests.media.clips import Clip, Tone
from tests.media.sound_files import Track, write

RATE = 48_000

STORED = (
    ("aac.mp4", Tone()),
    ("aac_44100.mp4", Tone(rate=44_100)),
    ("aac_22050_mono.mp4", Tone(rate=22_050, layout="mono")),
    ("aac.mkv", Tone()),
    ("aac.ts", Tone()),
    ("opus.webm", Tone(codec="libopus")),
    ("vorbis.webm", Tone(codec="vorbis", rate=44_100)),
    ("mp3.mp4", Tone(codec="libmp3lame", rate=44_100)),
    ("pcm.mov", Tone(codec="pcm_s16le")),
    ("pcm24.mov", Tone(codec="pcm_s24le", rate=96_000)),
    ("pcm.avi", Tone(codec="pcm_s16le", rate=44_100)),
    ("flac.mkv", Tone(codec="flac", rate=44_100)),
)


def probed_with_sound(
    name: str, tone: Tone, folder: Path, frames: int = 24, pts: list[int] | None = None
) -> ProbedVideo:
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    options = (("cpu-used", "8"),) if name.endswith("webm") else (("preset", "ultrafast"),)
    path = Clip(name, frames=frames, size=(64, 48), codec=codec, options=options, sound=tone, pts=pts).write(folder)
    return probe(path, sniff(path), Limits())


def probed(path: Path, *tracks: Track) -> ProbedVideo:
    return probe(write(path, *tracks), sniff(path), Limits())


def heard(video: ProbedVideo, first: int, stop: int, rate: int = RATE, block: int = 1 << 30) -> NDArray[np.float32]:
    return np.concatenate([np.zeros((2, 0), np.float32), *sound(video, first, stop, rate, block)], axis=1)


def onset(samples: NDArray[np.float32]) -> int:
    return int(np.argmax(np.abs(samples[0]) > 0.25))


@pytest.mark.parametrize(("name", "tone"), STORED, ids=[name for name, _ in STORED])
def test_length_place_and_pitch(tmp_path: Path, name: str, tone: Tone) -> None:
    video = probed_with_sound(name, tone, tmp_path)
    samples = heard(video, 0, RATE + 777)
    assert samples.shape == (2, RATE + 777)
    slack = 2 if tone.codec.startswith(("pcm", "flac")) else 60
    assert abs(onset(samples) - RATE // 4) <= slack
    steady = samples[:, RATE // 2 : RATE // 2 + RATE // 4]
    spectrum = np.abs(np.fft.rfft(steady[0] * np.hanning(steady.shape[1])))
    assert np.argmax(spectrum) == 250  # 1000 Hz in bins of 4 Hz
    assert 0.45 < np.abs(steady).max() < 0.55
    assert np.abs(samples[:, RATE + 100 :]).max() < 0.6
    np.testing.assert_allclose(samples[0], samples[1], atol=1e-3)


@pytest.mark.parametrize(("name", "tone"), STORED, ids=[name for name, _ in STORED])
def test_any_part_equals_that_part_of_the_whole(tmp_path: Path, name: str, tone: Tone) -> None:
    video = probed_with_sound(name, replace(tone, seconds=3.0, onset_s=0.1, hertz=440.0), tmp_path, frames=72)
    # Times in whole milliseconds can be off by half a millisecond.
    shift, tolerance = (25, 0.03) if name.endswith(("webm", "mkv")) else (0, 2e-3)
    whole = heard(video, 0, 3 * RATE + shift)
    for first, stop in ((0, 1000), (48_123, 60_001), (100_000, 144_000), (143_000, 144_000)):
        part, around = heard(video, first, stop), whole[:, max(0, first - shift) : stop + shift]
        inner = part[:, 2 * shift : part.shape[1] - 2 * shift]
        windows = np.lib.stride_tricks.sliding_window_view(around, inner.shape[1], axis=1)
        errors = np.abs(windows - inner[:, None]).max(axis=(0, 2))
        assert errors.min() < tolerance, (first, stop)


def test_blocks_are_pieces_of_one_stream(tmp_path: Path) -> None:
    video = probed_with_sound("aac_44100.mp4", Tone(rate=44_100), tmp_path)
    blocks = list(sound(video, 100, 50_100, RATE, 7000))
    assert [block.shape[1] for block in blocks] == [7000] * 7 + [1000]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), heard(video, 100, 50_100))


@pytest.fixture(scope="module")
def pcm(tmp_path_factory: pytest.TempPathFactory) -> ProbedVideo:
    return probed_with_sound("pcm.mov", Tone(codec="pcm_s16le", rate=44_100), tmp_path_factory.mktemp("sound"))


@settings(max_examples=25)
@given(first=st.integers(-5000, 60_000), count=st.integers(0, 70_000), rate=st.sampled_from([8000, 44_100, 48_000]))
def test_lengths_are_exact(pcm: ProbedVideo, first: int, count: int, rate: int) -> None:
    assert heard(pcm, first, first + count, rate, 10_000).shape == (2, count)


def test_times_before_and_after_the_sound_are_silent(tmp_path: Path) -> None:
    tone = Tone(codec="pcm_s16le", seconds=0.5, onset_s=0)
    video = probed_with_sound("short.mov", tone, tmp_path)
    samples = heard(video, -1000, RATE)
    assert np.abs(samples[:, :1000]).max() == 0
    assert np.abs(samples[:, 1000 + RATE // 2 :]).max() == 0
    np.testing.assert_allclose(samples[:, 1000 : 1000 + RATE // 2], tone.samples(), atol=1e-4)


def test_sound_after_the_last_frame_can_be_read(tmp_path: Path) -> None:
    video = probed_with_sound("long.mov", Tone(codec="pcm_s16le", seconds=2), tmp_path, frames=12)
    assert video.facts.num_frames == 12
    assert np.abs(heard(video, RATE, RATE + 5000)).max() > 0.4


@pytest.mark.parametrize("name", ["late.mov", "late.mkv", "late.ts"])
def test_sound_that_starts_late(tmp_path: Path, name: str) -> None:
    codec = "mp2" if name.endswith("ts") else "pcm_s16le"
    video = probed_with_sound(name, Tone(codec=codec, start_s=0.5, onset_s=0.0, seconds=0.4), tmp_path)
    samples = heard(video, 0, RATE)
    assert abs(onset(samples) - RATE // 2) <= 600 if codec == "mp2" else 48
    assert np.abs(samples[:, : RATE // 2 - 700]).max() < 1e-3


def test_time_0_is_the_first_frame(tmp_path: Path) -> None:
    tone = Tone(codec="pcm_s16le", start_s=10.0, onset_s=0.25)
    video = probed_with_sound("offset.mkv", tone, tmp_path, pts=[252 + n for n in range(24)])
    assert video.origin_s == Fraction(21, 2)
    assert np.abs(heard(video, 0, 1000)).max() > 0.4
    assert abs(onset(heard(video, -RATE // 2, 0)) - RATE // 4) <= 48


def test_mono_goes_to_both_sides(tmp_path: Path) -> None:
    tone = Tone(codec="pcm_s16le", layout="mono")
    samples = heard(probed_with_sound("mono.mov", tone, tmp_path), 0, RATE)
    np.testing.assert_allclose(samples, np.repeat(tone.samples(), 2, axis=0), atol=1e-4)


@pytest.mark.parametrize("layout", ["5.1", "quad", "2.1"])
def test_full_scale_surround_does_not_clip(tmp_path: Path, layout: str) -> None:
    tone = Tone(codec="pcm_s16le", layout=layout, level=1.0, onset_s=0)
    samples = heard(probed_with_sound("surround.mov", tone, tmp_path), 0, RATE)
    assert 0.98 < np.abs(samples).max() <= 1.0 + 1e-6
    np.testing.assert_array_equal(samples[0], samples[1])


def test_eight_planar_channels(tmp_path: Path) -> None:
    weights = np.arange(1, 9) / 20
    video = probed(tmp_path / "seven.mp4", Track(np.repeat(weights[:, None], RATE, axis=1), "7.1", "aac"))
    samples = heard(video, RATE // 4, RATE // 2)
    front_left, front_right, centre, _, back_left, back_right, side_left, side_right = weights
    left = front_left + 0.7071 * (centre + back_left + side_left)
    right = front_right + 0.7071 * (centre + back_right + side_right)
    np.testing.assert_allclose(samples.mean(axis=1), [left, right], atol=5e-3)


SIDES = {
    "stereo": ({200}, {300}),
    "5.1": ({200, 400, 600}, {300, 400, 700}),
    "7.1": ({200, 400, 600, 800}, {300, 400, 700, 900}),
    "quad": ({200, 400}, {300, 500}),
}


@pytest.mark.parametrize("name", ["sides.mkv", "sides.avi", "sides.mov"])
@pytest.mark.parametrize("layout", SIDES)
def test_channels_keep_their_sides(tmp_path: Path, name: str, layout: str) -> None:
    """Plain PCM in Matroska and AVI stores only the number of channels."""
    times = np.arange(RATE) / RATE
    count = len(av.AudioLayout(layout).channels)
    waves = np.stack([0.5 * np.sin(2 * np.pi * (200 + 100 * channel) * times) for channel in range(count)])
    samples = heard(probed(tmp_path / name, Track(waves, layout)), 0, RATE)
    spectra = np.abs(np.fft.rfft(samples, axis=1)) / RATE * 2
    found = [{hz for hz in range(200, 1000, 100) if side[hz] > 0.05} for side in spectra]
    assert tuple(found) == SIDES[layout]


def test_nan_is_silent_and_loud_samples_are_clipped(tmp_path: Path) -> None:
    wave = 0.5 * np.sin(np.arange(RATE) / 20)
    wave[1000:1010], wave[2000], wave[3000] = np.nan, np.inf, -1e30
    samples = heard(probed(tmp_path / "wild.mkv", Track(np.stack([wave, wave]), codec="pcm_f32le")), 0, RATE)
    assert not samples[:, 1000:1010].any()
    assert (samples[:, 2000] == 4).all()
    assert (samples[:, 3000] == -4).all()
    np.testing.assert_allclose(samples[:, 4000:], np.stack([wave, wave])[:, 4000:], atol=1e-6)


def noise(seed: int, channels: int = 2, level: float = 0.1) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0, level, (channels, RATE))


@pytest.mark.parametrize(
    ("layout", "named"), [("5.1", "5.1"), ("5.1(side)", "5.1(side)"), ("7.1", "7.1"), ("quad", "quad")]
)
def test_surround_keeps_its_loudness(tmp_path: Path, layout: str, named: str) -> None:
    """The mix is the sum of the weighted channels, not divided by anything."""
    channels = [channel.name for channel in av.AudioLayout(layout).channels]
    waves = noise(1, len(channels), 0.05)
    weights = {"FL": (1, 0), "FR": (0, 1), "FC": (0.7071, 0.7071), "LFE": (0, 0)}
    weights |= {name: (0.7071, 0) if name[-1] == "L" else (0, 0.7071) for name in ("BL", "BR", "SL", "SR")}
    plain = sum(np.outer(weights[name], wave) for name, wave in zip(channels, waves, strict=True))
    video = probed(tmp_path / "surround.mov", Track(waves, layout))
    assert video.facts.sound_notes == (f"The source's {layout} sound was mixed to stereo.",)
    np.testing.assert_allclose(heard(video, 0, RATE), plain, atol=2e-4)


def test_a_loud_moment_of_a_mix_is_limited_and_the_rest_is_not(tmp_path: Path) -> None:
    waves = noise(2, 6, 0.05)
    waves[:, 24_000:24_100] = 0.9
    video = probed(tmp_path / "loud.mov", Track(waves, "5.1"))
    samples = heard(video, 0, RATE)
    plain = waves[:2] + 0.7071 * waves[2] + 0.7071 * waves[4:]
    assert 0.98 < np.abs(samples).max() <= 1 + 1e-6
    for away in (slice(0, 23_500), slice(24_600, RATE)):
        np.testing.assert_allclose(samples[:, away], plain[:, away], atol=2e-4)
    gain = samples[:, 24_050] / plain[:, 24_050]
    np.testing.assert_allclose(gain, 1 / plain[:, 24_050].max(), rtol=1e-3)
    for first, stop in ((23_700, 24_300), (24_050, 30_000)):
        np.testing.assert_allclose(heard(video, first, stop), samples[:, first:stop], atol=1e-6)


def test_a_browser_s_recording_is_one_unbroken_sound(tmp_path: Path) -> None:
    """Opus in WebM whose timestamps are off by up to 4 ms: equal to what the decoder alone makes of its packets."""
    jitter = np.random.default_rng(4).integers(-4, 5, 1000)
    track = Track(noise(5), codec="libopus", delay_ms=lambda packet: int(jitter[packet]) if packet else 0)
    path = tmp_path / "recorded.webm"
    video = probed(path, track)
    own = raw.sound(path)[:, :40_000]
    samples = heard(video, -480, RATE)
    errors = [np.abs(samples[:, late : late + 1000] - own[:, :1000]).max() for late in range(960)]
    begin = int(np.argmin(errors))
    np.testing.assert_allclose(samples[:, begin : begin + 40_000], own, atol=1e-6)
    assert abs(begin - 480) <= 4 * 48


def test_lost_packets_are_silent_at_their_place(tmp_path: Path) -> None:
    jitter = np.random.default_rng(6).integers(-4, 5, 1000)
    lost = range(20, 25)
    track = Track(
        noise(7, level=0.2), codec="libopus", delay_ms=lambda packet: None if packet in lost else int(jitter[packet])
    )
    samples = heard(probed(tmp_path / "gap.webm", track), 0, RATE)
    silent = np.flatnonzero(~samples.any(axis=0))
    inner = silent[(silent > 1000) & (silent < 45_000)]
    assert abs(len(inner) - 5 * 960) <= 8 * 48
    assert inner[-1] - inner[0] == len(inner) - 1
    assert abs(inner[0] - 20 * 960) <= 12 * 48


def test_a_track_that_cannot_be_decoded_is_passed_over(tmp_path: Path) -> None:
    wave = noise(8)
    broken = Track(wave, codec="aac", bit_rate=256_000, is_broken=True)
    path = tmp_path / "two.mp4"
    video = probed(path, broken, Track(wave, codec="aac", bit_rate=200_000))
    assert video.facts.sound == SoundInfo(RATE, 2, "stereo", track=2)
    assert video.facts.sound_notes == (
        "Sound track 1 of the source cannot be decoded.",
        "Of the source's 2 sound tracks, only track 2 was used.",
    )
    np.testing.assert_allclose(heard(video, 0, RATE), raw.sound(path, track=1)[:, :RATE], atol=1e-6)


def test_sound_that_cannot_be_decoded_is_noted(tmp_path: Path) -> None:
    facts = probed(tmp_path / "one.mp4", Track(noise(9), codec="aac", is_broken=True)).facts
    assert facts.sound is None
    assert facts.sound_notes == ("The source's sound cannot be decoded and was left out.",)


def test_sound_of_a_rate_that_no_device_plays_is_left_out(tmp_path: Path) -> None:
    video = probed(tmp_path / "fast.mkv", Track(noise(9)[:, :3000], rate=800_000))
    note = "The source's sound has 800000 samples per second (at most 768000 can be read) and was left out."
    assert (video.facts.sound, video.facts.sound_notes) == (None, (note,))


def test_a_few_tracks_are_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Track(noise(8)[:, :5000], codec="aac", is_broken=True)
    path = write(tmp_path / "many.mp4", broken, broken, Track(noise(8)[:, :5000], codec="aac", bit_rate=32_000))
    assert probe(path, "mp4", Limits()).facts.sound is not None
    monkeypatch.setattr("longtake.media.probe.MOST_TRIED_TRACKS", 2)
    assert probe(path, "mp4", Limits()).facts.sound is None


def test_a_second_track_is_noted(tmp_path: Path) -> None:
    mono = Track(noise(10, 1), "mono", "aac", bit_rate=32_000)
    facts = probed(tmp_path / "two.mkv", mono, Track(noise(11), codec="aac", bit_rate=128_000)).facts
    assert facts.sound_notes == (
        f"Of the source's 2 sound tracks, only track {facts.sound and facts.sound.track} was used.",
    )


@pytest.mark.parametrize("name", ["aac_and_apac.mov"])
def test_a_track_in_an_unknown_codec_is_passed_over(shared: Path, name: str) -> None:
    path = shared / "cases" / "media" / name
    if not path.exists():
        pytest.skip(f"{name} is not in the shared folder")
    video = probe(path, sniff(path), Limits())
    assert "Sound track 2 of the source cannot be decoded." in video.facts.sound_notes
    assert abs(int(np.abs(heard(video, 0, 2 * RATE)[0]).argmax()) - RATE) < 600
