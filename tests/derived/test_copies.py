"""Copies of videos: what browsers play, with the same frames and sound."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from longtake.derived import copies
from longtake.derived.copies import copy_rate, copy_size, write_copy
from longtake.media.source import open_source
from tests.media.clips import Clip, Tone, number_of
from tests.media.files_out import read

pytestmark = pytest.mark.usefixtures("forked_decoders")


def test_a_copy_of_prores_has_its_frames_and_its_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "_SOUND_BLOCK_S", Fraction(1, 3))
    tone = Tone("pcm_s16le", seconds=1.0, onset_s=0.5, hertz=440, level=0.5)
    path = Clip("a.mov", frames=24, size=(130, 97), codec="prores_ks", pix_fmt="yuv422p10le", sound=tone).write(
        tmp_path
    )
    out, shares = tmp_path / "copy", list[float]()
    with open_source(path) as source:
        write_copy(source, out, shares.append)
    found = read(out)
    assert (found.codec, found.rate, found.sound_codec) == ("h264", Fraction(24), "aac")
    assert [number_of(frame) for frame in found.frames] == list(range(24))
    assert found.frames.shape[1:3] == (96, 130)
    assert found.sound is not None
    assert np.abs(found.sound[:, 2000:22_000]).max() < 0.02
    assert np.abs(found.sound[:, 26_000:46_000]).max() == pytest.approx(0.5, abs=0.03)
    assert shares[0] == 0
    assert shares == sorted(shares)
    content = out.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_a_copy_of_a_gif_has_no_sound(tmp_path: Path) -> None:
    path, out = Clip("a.gif", codec="gif", pix_fmt="rgb8", rate=Fraction(25), frames=5).write(tmp_path), tmp_path / "b"
    with open_source(path) as source:
        write_copy(source, out, lambda share: None)
    found = read(out)
    assert [number_of(frame) for frame in found.frames] == list(range(5))
    assert found.sound is None


@pytest.mark.parametrize(
    ("size", "copied"),
    [((1920, 1080), (1280, 720)), ((1080, 1920), (1080, 1920)), ((101, 51), (100, 52)), ((8000, 3), (1280, 2))],
)
def test_the_size_of_a_copy(size: tuple[int, int], copied: tuple[int, int]) -> None:
    assert copy_size(*size) == copied


@pytest.mark.parametrize(("rate", "copied"), [("24000/1001", "24000/1001"), ("60", "60"), ("120", "60"), ("90", "45")])
def test_the_rate_of_a_copy(rate: str, copied: str) -> None:
    assert copy_rate(Fraction(rate)) == Fraction(copied)
