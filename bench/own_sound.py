"""Measures what is left of a source's own sound when its result is extended again, five times in all.

Each extension is a whole request. The files are decoded by PyAV alone. Printed is the level of the source's sound above
that of the difference, in dB, up to the cross-fade before the joint.

python -m bench.own_sound [SOURCE] [SUFFIX ...]
"""

import sys
import tempfile
from pathlib import Path

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
    own = stored_sound(source)[:, : length - FADE_SAMPLES]
    print(f"own sound of {source.name} after 1 to {EXTENSIONS} extensions")
    for suffix in suffixes:
        with tempfile.TemporaryDirectory() as folder:
            losses, path = [], source
            for number in range(EXTENSIONS):
                longer = Path(folder) / f"{number}{suffix}"
                longtake.extend(path, longer, endpoint="2.3", prompt="x", new_frames=24, match_input_fps=True)
                heard, path = stored_sound(longer)[:, : own.shape[1]], longer
                losses.append(10 * np.log10(np.square(own).sum() / np.square(heard - own).sum()))
            print(f"  {suffix:6s} {'  '.join(f'{loss:.1f} dB' for loss in losses)}", flush=True)


def stored_sound(path: Path) -> NDArray[np.float64]:
    """Returns the stereo samples of a file at 48 kHz."""
    with av.open(str(path)) as file:
        resampler = av.AudioResampler(format="fltp", layout="stereo", rate=48_000)
        blocks = [block for frame in file.decode(audio=0) for block in resampler.resample(frame)]
        return np.concatenate([block.to_ndarray() for block in blocks], axis=1).astype(np.float64)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else CLIP, tuple(sys.argv[2:]) or SUFFIXES)
