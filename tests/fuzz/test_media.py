"""Changed video files are read, or refused in a short sentence that names no path, within their limits of time."""

import random
import time
from pathlib import Path

import pytest

from longtake.media.limits import Limits
from longtake.media.source import open_source
from longtake.media.still import open_still
from longtake.video import Span
from tests.fuzz.mutants import mutated, refusal, seeded
from tests.media.clips import Clip, Tone, write_gif, write_webp

LIMITS = Limits(max_pixels=2**20, max_duration_s=600, cpu_s=20, wall_s=60)
SIZE = (48, 32)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Small files of all containers."""
    folder = tmp_path_factory.mktemp("clips")
    tone = Tone(seconds=0.3)
    named = {"a.mp4": "libx264", "a.mov": "mjpeg", "a.avi": "mpeg4", "a.ts": "mpeg2video", "a.mkv": "libx264"}
    files = [
        Clip(name, frames=6, size=SIZE, codec=codec, pix_fmt="yuvj420p" if codec == "mjpeg" else "yuv420p", sound=sound)
        for (name, codec), sound in zip(named.items(), (tone, None, None, None, tone), strict=True)
    ]
    webm = Clip("a.webm", frames=6, size=SIZE, codec="libvpx", options=(("cpu-used", "8"),))
    paths = [clip.write(folder) for clip in (*files, webm)]
    paths += [write_webp(folder / "a.webp", 5, SIZE, 40), write_gif(folder / "a.gif", 5, SIZE)]
    return [path.read_bytes() for path in paths]


def read_all(path: Path) -> None:
    """Reads facts, frames and sound of a file as a request does."""
    with open_source(path, limits=LIMITS) as source:
        facts = source.facts
        assert 0 < facts.width * facts.height <= LIMITS.max_pixels
        assert 0 < facts.num_frames <= LIMITS.max_frames
        stop = min(facts.num_frames, 8)
        shown = sum(len(chunk) for chunk in source.frames(Span(0, stop, facts.rate)))
        assert shown == stop
        if facts.sound is not None:
            source.sound(0 / facts.rate, stop / facts.rate)


def check(draw: random.Random, clips: list[bytes], folder: Path) -> None:
    path = folder / "source"
    path.write_bytes(mutated(draw, draw.choice(clips)))
    started = time.monotonic()
    for reading in (read_all, lambda path: open_still(path, limits=LIMITS)):
        refused = refusal(lambda reading=reading: reading(path))  # type: ignore[misc]
        assert str(folder) not in (refused or "")
    assert time.monotonic() - started < 2 * LIMITS.wall_s


@pytest.mark.parametrize(
    "seeds", [range(4), pytest.param(range(4, 2000), marks=pytest.mark.soak)], ids=["short", "long"]
)
def test_changed_files(clips: list[bytes], tmp_path: Path, seeds: range) -> None:
    for seed in seeds:
        with seeded(seed) as draw:
            check(draw, clips, tmp_path)
