"""Which source frames are written, and which are the context. Sound: tests/test_runner_*.py."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, cast

import numpy as np
import pytest

from longtake.endpoints import ltx23, ltxv098
from longtake.output.source_frames import context_frames, earlier_frames, shown_frames, source_sound
from longtake.video import Progress, Span, VideoInfo, ignore_progress
from tests.endpoints.planning import plan_of

SHOWN = 49


class Source:
    """A source whose frame n has the value n; it is silent. `asked` has the formats in which frames were read."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def frames(self, span: Span, size: tuple[int, int], pixel_format: str = "rgb24") -> Iterator[Any]:
        self.asked.append(pixel_format)
        numbers = np.arange(span.start, span.stop, dtype=np.uint8)
        for start in range(0, len(numbers), 16):
            chunk = numbers[start : start + 16, None, None, None]
            yield np.broadcast_to(chunk, (len(chunk), size[1], size[0], 3))

    def sound(self, start: Fraction, stop: Fraction, report: Any) -> None:
        return None


def plan(**fields: Any) -> Any:
    source = VideoInfo("mp4", "h264", 64, 64, Fraction(24), SHOWN)
    return plan_of(ltxv098.ENDPOINT, {"num_frames": 97, "resolution": "480p", **fields}, source)


@pytest.mark.parametrize("strength", [1, 0.5])
def test_all_source_frames_are_shown_except_a_rendered_context(strength: float) -> None:
    chosen, source, reports = plan(video={"strength": strength}), Source(), list[Progress]()
    numbers = [
        number for chunk in shown_frames(cast(Any, source), chosen, reports.append) for number in chunk[:, 0, 0, 0]
    ]
    written = SHOWN if strength == 1 else SHOWN - chosen.context_frames
    assert numbers == list(range(written))
    assert source.asked == (["yuv420p"] if written else [])
    assert [one.step for one in reports] == list(range(0, written, 16))
    assert {(one.stage, one.steps) for one in reports} <= {("footage", written)}


def test_the_context_is_next_to_the_joint() -> None:
    chosen, source = plan(), Source()
    context = context_frames(cast(Any, source), chosen)
    assert context[:, 0, 0, 0].tolist() == list(range(SHOWN))[-chosen.context_frames :]
    assert context.shape[1:] == (chosen.height, chosen.width, 3)
    assert source.asked == ["rgb24"]


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("most", [0, 5, 10_000])
def test_earlier_frames_are_those_beyond_the_context(direction: str, most: int) -> None:
    shown = VideoInfo("mp4", "h264", 64, 64, Fraction(24), SHOWN)
    chosen = plan_of(ltx23.ENDPOINT, {"num_frames": 41, "extend_direction": direction}, shown)
    found = earlier_frames(cast(Any, Source()), chosen, most)[:, 0, 0, 0].tolist()
    numbers, seen = list(range(SHOWN)), chosen.context_frames
    beyond = numbers[seen:][:most] if direction == "backward" else numbers[:-seen][max(0, SHOWN - seen - most) :]
    assert found == beyond


def test_a_silent_source_has_no_sound() -> None:
    source: Any = Source()
    assert source_sound(source, plan(), ignore_progress) is None


def test_reading_sound_reports_progress() -> None:
    class Heard(Source):
        def sound(self, start: Fraction, stop: Fraction, report: Any) -> Any:
            for done in (0, 20, 40):
                report(done * 48_000, 40 * 48_000)
            return np.zeros((2, round((stop - start) * 48_000)), np.float32)

    source, reports = cast(Any, Heard()), list[Progress]()
    source_sound(source, plan(), reports.append)
    assert reports == [Progress("context sound", done, 40) for done in (0, 20, 40)]
