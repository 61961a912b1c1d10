"""The clips of `make demo`, and the comparison that it draws."""

import subprocess
import sys
from pathlib import Path

import av
import numpy as np

from tests.media.clips import Clip

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_a_result_is_shown_beside_the_true_continuation(tmp_path: Path) -> None:
    longer = Clip("longer.mp4", frames=6, size=(160, 96)).write(tmp_path)
    after = Clip("after.mp4", frames=2, size=(160, 96)).write(tmp_path)
    command = [sys.executable, str(EXAMPLES / "beside.py"), str(longer), str(after), str(tmp_path / "beside.mp4")]
    subprocess.run(command, check=True)
    with av.open(str(tmp_path / "beside.mp4")) as file:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]).astype(int)
    left, right = np.split(frames[:, 60:], 2, axis=2)
    differences = np.abs(left - right).mean(axis=(1, 2, 3))
    assert len(frames) == 6
    assert differences[:4].max() < 4 < differences[4:].min()


def test_the_example_clips_fit_their_continuations() -> None:
    for name in ("city", "clip"):
        with av.open(str(EXAMPLES / f"{name}.mp4")) as source, av.open(str(EXAMPLES / f"{name}_after.mp4")) as after:
            one, other = source.streams.video[0], after.streams.video[0]
            assert (one.width, one.height, one.average_rate) == (other.width, other.height, other.average_rate)
    assert sum(path.stat().st_size for path in EXAMPLES.iterdir()) < 3_000_000
