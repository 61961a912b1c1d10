"""Measures what is left of a source's own frames and sound when its result is extended again, five times in all.

Each extension is a whole request. The files are decoded by PyAV alone. Printed are the mean shift of the luma codes,
the Y-PSNR in dB, and the level of the source's sound above that of the difference in dB, up to the cross-fade before
the joint. The source must be limited-range BT.709, so that its codes can be compared with those of the results.

python -m bench.five_extensions [SOURCE] [SUFFIX ...]
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

import longtake
from longtake.media.sound import FADE_SAMPLES, num_samples
from longtake.media.source import open_source

CLIP = Path(__file__).parents[1] / "examples" / "clip.mp4"
SUFFIXES = (".mp4", ".webm", ".mov")
EXTENSIONS = 5


def main(source: Path = CLIP, suffixes: tuple[str, ...] = SUFFIXES) -> None:
    with open_source(source) as file:
        length = num_samples(file.facts.num_frames, file.facts.rate)
    sound, luma = stored_sound(source)[:, : length - FADE_SAMPLES], stored_luma(source)
    print(f"own frames and sound of {source.name} after 1 to {EXTENSIONS} extensions")
    for suffix in suffixes:
        with tempfile.TemporaryDirectory() as folder:
            path = source
            for number in range(EXTENSIONS):
                longer = Path(folder) / f"{number}{suffix}"
                longtake.extend(path, longer, endpoint="2.3", prompt="x", new_frames=24, match_input_fps=True)
                path = longer
                difference = stored_luma(path, len(luma)) - luma
                psnr = 10 * np.log10(255**2 / np.square(difference).mean())
                heard = stored_sound(path)[:, : sound.shape[1]]
                level = 10 * np.log10(np.square(sound).sum() / np.square(heard - sound).sum())
                print(
                    f"  {suffix:6s} extension {number + 1}: luma {difference.mean():+.3f}, {psnr:.1f} dB; "
                    f"sound {level:.1f} dB",
                    flush=True,
                )


def stored_luma(path: Path, count: int | None = None) -> NDArray[np.float32]:
    """Returns the luma [t, H, W] of the first `count` frames, or of all; codes of 10 bits are divided by 4."""
    found: list[NDArray[np.float32]] = []
    with av.open(str(path)) as file:
        for frame in file.decode(video=0):
            if len(found) == count:
                break
            found.append(_luma(frame))
    return np.stack(found)


def _luma(frame: Any) -> NDArray[np.float32]:
    plane, bits = frame.planes[0], frame.format.components[0].bits
    rows = np.frombuffer(plane, np.uint16 if bits > 8 else np.uint8).reshape(plane.height, -1)[:, : plane.width]
    return rows.astype(np.float32) / np.float32(2 ** (bits - 8))


def stored_sound(path: Path) -> NDArray[np.float64]:
    """Returns the stereo samples of a file at 48 kHz."""
    with av.open(str(path)) as file:
        resampler = av.AudioResampler(format="fltp", layout="stereo", rate=48_000)
        blocks = [block for frame in file.decode(audio=0) for block in resampler.resample(frame)]
        return np.concatenate([block.to_ndarray() for block in blocks], axis=1).astype(np.float64)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else CLIP, tuple(sys.argv[2:]) or SUFFIXES)
