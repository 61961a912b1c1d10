"""Waveforms: the loudest sample of each part."""

from pathlib import Path

import pytest

from longtake.derived import wave
from longtake.derived.wave import waveform
from longtake.media.source import open_source
from tests.media.clips import Clip, Tone

pytestmark = pytest.mark.usefixtures("forked_decoders")


def test_the_peaks_are_those_of_the_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wave, "_BLOCK_S", 1)
    tone = Tone("pcm_s16le", seconds=2.0, onset_s=1.0, level=0.5, hertz=440)
    path = Clip("a.mov", frames=48, codec="mpeg4", sound=tone).write(tmp_path)
    with open_source(path) as source:
        found = waveform(source, points=10)
    assert found["duration"] == 2
    assert found["peaks"][:4] == [0, 0, 0, 0]
    assert found["peaks"][5:] == pytest.approx([0.5] * 5, abs=0.04)  # a filter overshoots where the tone begins


def test_a_video_without_sound_has_none(tmp_path: Path) -> None:
    with open_source(Clip("a.mp4", frames=2).write(tmp_path)) as source:
        assert waveform(source, points=10)["peaks"] is None
