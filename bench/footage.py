"""Measures on finished files how a miniature that stands in goes on with real footage, beside the footage itself.

python -m bench.footage examples/city.mp4 35 59 83

For each cut, the frames before it are the source, and the 24 frames after it are held back. Of the new frames in the
file it prints: the sharpness of the least and of the most sharp one, the change at the joint, and the motion, each
relative to the source; and their PSNR to the frames that were held back, beside the PSNR of repeating the last frame.
With `--new N`, N frames are held back. Each 24 new frames have a line, whose joint is the change at their start.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

import longtake
from longtake.inspect.joint import joint_figures
from longtake.media.encode import Encoder
from longtake.media.formats import output_format

SOURCE, NEW, NEAR = 33, 24, 8
"""The number of frames of the source, of new frames in a line, and of frames on each side of the joint that are
compared."""

Frames = NDArray[np.uint8]


def decode(path: Path) -> tuple[Frames, Any]:
    """Returns a video's frames [t, H, W, 3] and its rate."""
    with av.open(str(path)) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
        return np.stack(frames), file.streams.video[0].average_rate


def figures(source: Frames, before: Frames, after: Frames, truth: Frames) -> str:
    """Returns the figures of the frames `after`, which follow the frames `before`, as text."""
    near = source[-NEAR - 1 :]
    sharp = [joint_figures(near, np.stack([frame, frame])).sharpness_ratio for frame in after]
    joint = joint_figures(before[-NEAR - 1 :], after[: NEAR + 1])
    motion = joint_figures(near, after).motion_ratio
    loss = psnr(after, truth) - psnr(np.repeat(source[-1:], len(truth), axis=0), truth)
    gain = "" if np.isinf(loss) else f"PSNR {psnr(after, truth):5.2f} ({loss:+.2f} over freezing)"
    return (
        f"sharpness {min(sharp):.2f}..{max(sharp):.2f}  joint {joint.difference_ratio:.2f}  motion {motion:.2f}  {gain}"
    )


def psnr(frames: Frames, truth: Frames) -> float:
    """Returns the mean PSNR of frames in dB; infinite for equal ones."""
    errors = np.square(frames.astype(np.float64) - truth).mean(axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return float(np.mean(10 * np.log10(255**2 / errors)))


def measure(
    clip: Frames, rate: Any, cut: int, new: int, options: dict[str, Any], folder: Path
) -> list[tuple[str, str]]:
    """Returns for each 24 of the `new` frames after frame `cut` of a clip their figures, and those of the frames held
    back."""
    height, width = (side // 2 * 2 for side in clip.shape[1:3])
    source = folder / "source.mp4"
    with Encoder(
        source, output_format("X264 (.mp4)", "maximum", "fast"), width, height, rate, sound_rate=None
    ) as video:
        video.write(clip[max(0, cut - SOURCE) : cut, :height, :width])
    longtake.extend(
        str(source), folder / "longer.mp4", prompt="footage", seed=1, new_frames=new, overwrite=True, **options
    )
    frames, _ = decode(folder / "longer.mp4")
    own, made = frames[:-new], frames[-new:]
    size = (frames.shape[2], frames.shape[1])
    held_back = np.stack([np.asarray(ImageOps.fit(Image.fromarray(f), size)) for f in clip[cut : cut + new]])
    lines = []
    for start in range(0, new, NEW):
        at, stop = slice(start, start + NEW), len(own) + start
        new_line, true_line = (
            figures(own, np.concatenate([own, shown])[:stop], shown[at], held_back[at]) for shown in (made, held_back)
        )
        lines.append((new_line, true_line))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("cut", type=int, nargs="+", help="the number of the first frame that is held back")
    parser.add_argument("--resolution", default="480p")
    parser.add_argument("--new", type=int, default=NEW, help="the number of new frames")
    given = parser.parse_args()
    clip, rate = decode(given.clip)
    with tempfile.TemporaryDirectory() as folder:
        for cut in given.cut:
            for new, truth in measure(clip, rate, cut, given.new, {"resolution": given.resolution}, Path(folder)):
                print(
                    f"{given.clip.name} {cut}  new frames  {new}", f"{'':>8}held back   {truth}", sep="\n", flush=True
                )


if __name__ == "__main__":
    main()
