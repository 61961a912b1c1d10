"""Compares two ways of a source's own 1080p frames to the output: as planes, and through RGB.

First the frames are only read. Then they are written to a finished file too.

python -m bench.own_frames
"""

import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from bench.timing import in_turn, ratio, show
from longtake.media.encode import Encoder
from longtake.media.formats import output_format
from longtake.media.source import SourceReader, open_source
from longtake.video import Span

WIDTH, HEIGHT, RATE, NUM_FRAMES = 1920, 1080, Fraction(24), 48
FORMAT = output_format("X264 (.mp4)", "high", "balanced")


def make_clip(path: Path) -> None:
    """Writes a textured pan."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (HEIGHT // 8, WIDTH // 4, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    with Encoder(path, FORMAT, WIDTH, HEIGHT, RATE, sound_rate=None) as video:
        for frame in range(NUM_FRAMES):
            video.write(coarse[None, :, 4 * frame : 4 * frame + WIDTH])


def read(source: SourceReader, pixel_format: Any) -> None:
    for _ in source.frames(span(), pixel_format=pixel_format):
        pass


def write_planes(source: SourceReader, path: Path) -> None:
    with Encoder(path, FORMAT, WIDTH, HEIGHT, RATE, sound_rate=None) as video:
        for chunk in source.frames(span(), pixel_format=FORMAT.frame_format):
            video.write_planes(chunk)


def write_rgb(source: SourceReader, path: Path) -> None:
    with Encoder(path, FORMAT, WIDTH, HEIGHT, RATE, sound_rate=None) as video:
        for chunk in source.frames(span()):
            video.write(chunk)


def span() -> Span:
    return Span(0, NUM_FRAMES, RATE)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = folder / "0.mp4"
        make_clip(first)
        with open_source(first) as source:
            timings = in_turn(3, planes=lambda: read(source, "yuv420p"), rgb=lambda: read(source, "rgb24"))
            show(f"reading {NUM_FRAMES} frames at {WIDTH}x{HEIGHT}", timings)
            print(f"  planes / RGB = {ratio(timings, 'planes', 'rgb'):.3f}")
            out = folder / "out.mp4"
            timings = in_turn(3, planes=lambda: write_planes(source, out), rgb=lambda: write_rgb(source, out))
            show("reading and writing them", timings)
            print(f"  planes / RGB = {ratio(timings, 'planes', 'rgb'):.3f}")


if __name__ == "__main__":
    main()
