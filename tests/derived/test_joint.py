"""The joint of a result as the server's pages show it."""

from pathlib import Path
from typing import Literal

import pytest

from longtake.derived.joint import joint_position
from longtake.media.encode import Encoder
from longtake.media.formats import output_format
from longtake.video import VideoInfo
from tests.cli.test_inspection import NEW, RATE, SHOWN, make_plan
from tests.media.files_out import moving


def written(path: Path, num_frames: int) -> Path:
    """Writes a moving video of the size and rate of `make_plan`, and returns its path."""
    with Encoder(path, output_format("X264 (.mp4)", "low", "fast"), 160, 96, RATE, sound_rate=None) as file:
        file.write(moving(num_frames, 96, 160))
    return path


@pytest.mark.parametrize(("direction", "frame", "seconds"), [("forward", SHOWN, 1.5), ("backward", NEW, 2)])
def test_the_place_of_the_joint(direction: Literal["forward", "backward"], frame: int, seconds: float) -> None:
    facts = VideoInfo("mp4", "h264", 160, 96, RATE, SHOWN + NEW - 1)
    position = joint_position(facts, make_plan(direction))
    assert (position.frame, float(position.sound_s), position.num_frames) == (frame, seconds, SHOWN + NEW - 1)
    assert position.new_first == (direction == "backward")
