"""A miniature that stands in shows the source's fine detail and motion in its new frames, measured on the file."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import longtake
from longtake.media.encode import Encoder
from longtake.media.formats import output_format
from longtake.output.carrying import (
    BALANCE_NOTE,
    DETAIL_NOTE,
    NO_TRACK_NOTE,
    ONE_FRAME_NOTE,
    REPEATED_NOTE,
    SILENT_NOTE,
    STEADY_NOTE,
)
from tests import raw
from tests.carried.test_detail import codes, texture

pytestmark = pytest.mark.usefixtures("forked_decoders", "one_thread")

CONTEXT, NEW, STEP, SIZE = 9, 8, 2, (160, 96)


def film() -> NDArray[np.uint8]:
    """A camera that moves steadily over a texture, with the frames before, in and after the source."""
    wide = codes(texture())
    return np.stack([wide[:, at : at + SIZE[0]] for at in range(0, (NEW + CONTEXT + NEW) * STEP, STEP)])


def sharpness(planes: NDArray[Any]) -> NDArray[np.float64]:
    """The sharpness of each of the luma planes [t, H, W]."""
    pixels = planes.astype(np.float64)
    across, down = np.square(np.diff(pixels, axis=2)), np.square(np.diff(pixels, axis=1))
    total: NDArray[np.float64] = across.mean(axis=(1, 2)) + down.mean(axis=(1, 2))
    return total


@pytest.fixture(autouse=True)
def _default_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LONGTAKE_CARRY_DETAIL")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "clip.mp4"
    with Encoder(path, output_format("X264 (.mp4)", "maximum", "fast"), *SIZE, Fraction(24)) as video:
        video.write(film()[NEW : NEW + CONTEXT])
    return path


def extended(source: Path, to: Path, direction: str, **choice: Any) -> longtake.Result:
    fields: dict[str, Any] = {
        "generate_audio": False,
        "new_frames": NEW,
        "match_input_fps": True,
        "num_inference_steps": 8,
        "use_multiscale": False,
        "video_cfg_scale": 1,
        "video_stg_scale": 0,
        "video_modality_scale": 1,
        "quality": "maximum",
    }
    return longtake.extend(
        str(source),
        to,
        endpoint="2.3",
        prompt="x",
        seed=1,
        extend_direction=direction,
        **fields | choice,
    )


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_new_frames_are_as_sharp_as_the_source_and_move_on(source: Path, tmp_path: Path, direction: str) -> None:
    result = extended(source, tmp_path / "longer.mp4", direction)
    assert DETAIL_NOTE in result.notes
    planes = raw.luma(result.path)
    new, own = (planes[:NEW][::-1], planes[NEW:]) if direction == "backward" else (planes[CONTEXT:], planes[:CONTEXT])
    ratios = sharpness(new) / sharpness(own).mean()
    assert 0.85 < ratios.min() <= ratios.max() < 1.15
    joint = own[0] if direction == "backward" else own[-1]
    changes = np.abs(np.diff(np.concatenate([joint[None], new]), axis=0)).mean(axis=(1, 2))
    usual = np.abs(np.diff(own, axis=0)).mean()
    assert 0.5 < changes[0] / usual < 1.5
    assert (changes > 0.3 * usual).all()


def test_the_new_sound_stays_at_the_side_of_the_source_s(tmp_path: Path) -> None:
    path, own = tmp_path / "left.mp4", round(CONTEXT * 48_000 / 24)
    tone = 0.2 * np.sin(np.arange(own) * 2 * np.pi * 440 / 48_000)
    with Encoder(path, output_format("X264 (.mp4)", "maximum", "fast"), *SIZE, Fraction(24)) as video:
        video.write_sound((np.array([[1.0], [0.2]]) * tone).astype(np.float32))
        video.write(film()[:CONTEXT])
    result = extended(path, tmp_path / "longer.mp4", "forward", generate_audio=True, new_frames=24)
    assert BALANCE_NOTE in result.notes
    left, right = np.sqrt(np.square(raw.sound(result.path)[:, own + 44_000 : own + 48_000]).mean(axis=1))
    assert 3 < left / right < 8


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_steady_tone_goes_on_and_silence_stays_silent(tmp_path: Path, direction: str) -> None:
    film_, own, new = film()[:15], 15 * 2000, NEW * 2000
    tone = 0.3 * np.sin(np.arange(own) * 2 * np.pi * 440 / 48_000)
    for loudness, note in ((1, STEADY_NOTE), (0, SILENT_NOTE)):
        path, longer = tmp_path / f"source_{loudness}.mp4", tmp_path / f"longer_{loudness}.mp4"
        with Encoder(path, output_format("X264 (.mp4)", "maximum", "fast"), *SIZE, Fraction(24)) as video:
            video.write_sound(np.stack([loudness * tone, 0.5 * loudness * tone]).astype(np.float32))
            video.write(film_)
        assert note in extended(path, longer, direction, generate_audio=True).notes
        heard = raw.sound(longer)
        made = heard[:, 1000 : new - 1000] if direction == "backward" else heard[:, own + 1000 : own + new - 1000]
        spectrum = np.abs(np.fft.rfft(made * np.hanning(made.shape[1]), 1 << 17))
        levels = np.sqrt(np.square(made).mean(axis=1))
        if loudness:
            assert spectrum.argmax(axis=1) * 48_000 / (1 << 17) == pytest.approx([440, 440], abs=1)
        assert levels == pytest.approx(loudness * np.array([0.212, 0.106]), rel=0.03)


def test_beeps_go_on(tmp_path: Path) -> None:
    path, own, new = tmp_path / "beeps.mp4", 32 * 2000, 24 * 2000
    since = np.arange(own + new) % 24_000 / 48_000
    beeps = 0.126 * np.sin(2 * np.pi * 1000 * since) * (since < 0.03)
    with Encoder(path, output_format("X264 (.mp4)", "maximum", "fast"), *SIZE, Fraction(24)) as video:
        video.write_sound(np.stack([beeps[:own]] * 2).astype(np.float32))
        video.write(np.concatenate([film()[:16], film()[:16]]))
    result = extended(path, tmp_path / "longer.mp4", "forward", generate_audio=True, new_frames=24)
    assert REPEATED_NOTE in result.notes
    heard = raw.sound(result.path)[:, own : own + new]
    assert np.square(heard - beeps[own:]).mean() < 0.02 * np.square(beeps[own:]).mean()


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_source_without_a_sound_track_goes_on_silently(tmp_path: Path, direction: str) -> None:
    path, most = tmp_path / "mute.mp4", output_format("X264 (.mp4)", "maximum", "fast")
    with Encoder(path, most, *SIZE, Fraction(24), sound_rate=None) as video:
        video.write(film()[:CONTEXT])
    result = extended(path, tmp_path / "longer.mp4", direction, generate_audio=True)
    assert NO_TRACK_NOTE in result.notes
    assert result.has_sound
    heard = raw.sound(result.path)
    assert heard.shape[1] >= (CONTEXT + NEW) * 2000
    assert not heard.any()


def test_a_note_says_that_one_frame_shows_no_motion(source: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.mp4"
    with Encoder(picture, output_format("X264 (.mp4)", "maximum", "fast"), *SIZE, Fraction(24)) as video:
        video.write(film()[:1])
    for path, note, other in ((picture, ONE_FRAME_NOTE, DETAIL_NOTE), (source, DETAIL_NOTE, ONE_FRAME_NOTE)):
        notes = extended(path, tmp_path / f"longer_{path.name}", "forward", num_context_frames=1).notes
        assert note in notes
        assert other not in notes


def test_a_miniature_that_was_asked_for_by_name_shows_its_own_frames(source: Path, tmp_path: Path) -> None:
    named = extended(source, tmp_path / "named.mp4", "forward", model="ltx2-tiny")
    assert DETAIL_NOTE not in named.notes
    assert NO_TRACK_NOTE not in named.notes
    planes = raw.luma(named.path)
    assert sharpness(planes[-4:]).mean() < 0.6 * sharpness(planes[:CONTEXT]).mean()
