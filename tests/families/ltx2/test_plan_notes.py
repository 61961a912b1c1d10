"""What a plan of LTX-2.3 says of a context that is not the one that was asked for, and contexts at their limits."""

from fractions import Fraction

import pytest

from longtake.families.ltx2.options import Direction, LTX2Options
from longtake.families.ltx2.plan import LTX2Plan, extensions, make_plan
from longtake.video import VideoInfo
from tests.families.ltx2.test_plan import options
from tests.models.cards import ltx2_card

SOURCE = VideoInfo("mp4", "h264", 1280, 720, Fraction(24), 300)


def plan_of(asked: LTX2Options) -> LTX2Plan:
    return make_plan(asked, SOURCE, ltx2_card("ltx-2.3"), 1)


@pytest.mark.parametrize(
    ("asked", "direction", "context", "note"),
    [
        (25, "forward", 25, None),
        (30, "forward", 25, "num_context_frames asks for 30 frames; the context has 25"),
        (15, "backward", 8, "num_context_frames asks for 15 frames; the context has 8"),
        (120, "forward", 113, "num_context_frames asks for 120 frames; the context has 113"),
    ],
)
def test_a_context_may_be_rounded_down(asked: int, direction: Direction, context: int, note: str | None) -> None:
    given = options(
        direction=direction, context_frames=asked, context_field="num_context_frames", context_rounds_down=True
    )
    plan = plan_of(given)
    assert (plan.context_frames, plan.new_frames) == (context, 121 - context)
    assert note is None or plan.notes[0].startswith(note)
    assert bool(plan.notes) == (note is not None)


def test_the_least_of_a_backward_extension_is_said() -> None:
    plan = plan_of(options(direction="backward", num_frames=9))
    assert (plan.context_frames, plan.new_frames, plan.billed_frames) == (8, 8, 9)
    assert plan.notes == ("num_frames is 9; 8 frames of context and 8 new ones are the least that there can be.",)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_cut_needs_no_second_window_for_what_one_holds(direction: Direction) -> None:
    assert len(extensions(direction, 300, 0, 481, 481)) == 1
    assert len(extensions(direction, 300, 0, 482, 481)) == 2


def test_windows_after_the_first_see_all_of_the_context_though_the_source_is_short() -> None:
    short = VideoInfo("mp4", "h264", 1280, 720, Fraction(24), 9)
    forward = make_plan(options(new_frames=1000), short, ltx2_card("ltx-2.3"), 1)
    assert [one.context_frames for one in forward.extensions] == [9, 25, 25]
    backward = make_plan(options(new_frames=1000, direction="backward"), short, ltx2_card("ltx-2.3"), 1)
    assert [one.context_frames for one in backward.extensions] == [8, 24, 24]
