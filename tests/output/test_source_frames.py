"""Which source frames are written, and which are the context. Sound: tests/test_runner_*.py."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from longtake.endpoints import ltxv098
from longtake.output.source_frames import source_sound, write_source
from longtake.video import Progress, Span, VideoInfo
from tests.endpoints.planning import plan_of

SHOWN = 49


class Source:
    """A source whose frame n has the value n; it is silent."""

    def frames(self, span: Span, size: tuple[int, int]) -> Iterator[Any]:
        numbers = np.arange(span.start, span.stop, dtype=np.uint8)
        for start in range(0, len(numbers), 16):
            chunk = numbers[start : start + 16, None, None, None]
            yield np.broadcast_to(chunk, (len(chunk), size[1], size[0], 3))

    def sound(self, start: Fraction, stop: Fraction) -> None:
        return None


def plan(**fields: Any) -> Any:
    source = VideoInfo("mp4", "h264", 64, 64, Fraction(24), SHOWN)
    return plan_of(ltxv098.ENDPOINT, {"num_frames": 97, "resolution": "480p", **fields}, source)


@pytest.mark.parametrize("strength", [1, 0.5])
def test_all_source_frames_are_written_except_a_rendered_context(strength: float) -> None:
    chosen = plan(video={"strength": strength})
    source: Any = Source()
    numbers: list[int] = []
    reports: list[Progress] = []
    context = write_source(source, chosen, lambda frames: numbers.extend(frames[:, 0, 0, 0]), reports.append)
    written = SHOWN if strength == 1 else SHOWN - chosen.context_frames
    assert numbers == list(range(written))
    assert context[:, 0, 0, 0].tolist() == list(range(SHOWN))[-chosen.context_frames :]
    assert context.shape[1:] == (chosen.height, chosen.width, 3)
    assert [one.step for one in reports] == [0, 16, 32, 48]
    assert {(one.stage, one.steps) for one in reports} == {("context", SHOWN)}


def test_a_silent_source_has_no_sound() -> None:
    source: Any = Source()
    assert source_sound(source, plan()) is None
