"""Measures what happens to the source's own frames: the time per frame, and the loss over five passes.

1. Reading and converting 1080p frames at their own size, as planes for the encoder and as RGB pictures.
2. The whole way to a finished file, both ways.
3. Five passes of reading planes and writing them again, at the default quality. The loss is measured on the decoded
   planes of the finished files.

python -m bench.own_frames
"""

import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from bench.timing import in_turn, ratio, show
from longtake.media.encode import Encoder
from longtake.media.formats import output_format
from longtake.media.source import SourceReader, open_source
from longtake.video import Span

WIDTH, HEIGHT, RATE, NUM_FRAMES = 1920, 1080, Fraction(24), 48
FORMAT = output_format("X264 (.mp4)", "high", "balanced")
PASSES = 5


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


def luma(path: Path) -> Any:
    """Returns the luma codes of all frames of a file."""
    with av.open(str(path)) as file:
        frames = [frame.to_ndarray()[: frame.height] for frame in file.decode(video=0)]
    return np.stack(frames)


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
        original = luma(first)
        print(f"{PASSES} passes at high quality: mean luma shift, Y-PSNR against the source")
        for number in range(PASSES):
            with open_source(folder / f"{number}.mp4") as source:
                write_planes(source, folder / f"{number + 1}.mp4")
            difference = luma(folder / f"{number + 1}.mp4").astype(np.float32) - original
            noise = 10 * np.log10(255**2 / np.square(difference).mean())
            print(f"  pass {number + 1}: {difference.mean():+.3f}, {noise:.1f} dB")


if __name__ == "__main__":
    main()
