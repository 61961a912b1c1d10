"""The windows of an LTX-2 plan: tables, and properties that hold for every request."""

from fractions import Fraction
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.families.ltx2.options import Direction
from longtake.families.ltx2.plan import (
    make_plan,
)
from longtake.families.ltx2.windows import Window, plan_windows, window_limit
from longtake.video import VideoInfo
from tests.families.ltx2.planning import options
from tests.models.cards import ltx2_card


@pytest.mark.parametrize(
    ("rate", "model", "limit"),
    [
        (24, "ltx-2.3", 481),
        (25, "ltx-2.3", 497),
        (60, "ltx-2.3", 1201),
        (1, "ltx-2.3", 17),
        (24, "ltx2-tiny", 41),
        (1, "ltx2-tiny", 17),
    ],
)
def test_a_window_lasts_as_long_as_positions_reach(rate: int, model: str, limit: int) -> None:
    assert window_limit(Fraction(rate), ltx2_card(model)) == limit


@pytest.mark.parametrize(
    ("direction", "available", "context", "new", "limit", "made"),
    [
        ("forward", 300, 25, 121, 481, [(25, 121, 153)]),
        ("forward", 300, 25, 120, 481, [(25, 120, 145)]),
        ("forward", 300, 24, 121, 481, [(17, 121, 145)]),
        ("forward", 300, 1, 9, 481, [(1, 9, 17)]),
        ("forward", 20, 25, 121, 481, [(17, 121, 145)]),
        ("forward", 5, 25, 121, 481, [(1, 121, 129)]),
        ("forward", 300, 121, 121, 145, [(65, 64, 129), (65, 57, 129)]),
        ("forward", 300, 25, 481, 481, [(25, 240, 265), (25, 241, 273)]),
        ("forward", 5, 25, 60, 41, [(1, 16, 17), (17, 24, 41), (17, 20, 41)]),
        ("forward", 300, 121, 360, 481, [(121, 360, 481)]),
        ("forward", 300, 121, 361, 481, [(121, 184, 305), (121, 177, 305)]),
        ("forward", 300, 121, 24, 145, [(121, 24, 145)]),
        ("forward", 300, 121, 25, 145, [(113, 25, 145)]),
        ("forward", 300, 0, 121, 481, [(0, 121, 121)]),
        ("forward", 300, 0, 122, 481, [(0, 122, 129)]),
        ("forward", 300, 0, 500, 481, [(0, 248, 249), (25, 252, 281)]),
        ("forward", 300, 0, 60, 41, [(0, 16, 17), (9, 24, 33), (17, 20, 41)]),
        ("backward", 300, 25, 121, 481, [(24, 121, 145)]),
        ("backward", 300, 120, 361, 481, [(120, 361, 481)]),
        ("backward", 300, 120, 362, 481, [(120, 177, 297), (120, 185, 305)]),
        ("backward", 300, 120, 25, 145, [(120, 25, 145)]),
        ("backward", 300, 120, 26, 145, [(112, 26, 145)]),
        ("backward", 300, 0, 121, 481, [(0, 121, 121)]),
        ("backward", 3, 0, 50, 41, [(0, 25, 25), (16, 25, 41)]),
        ("backward", 300, 25, 122, 481, [(24, 122, 153)]),
        ("backward", 300, 8, 9, 481, [(8, 9, 17)]),
        ("backward", 5, 25, 9, 481, [(5, 9, 17)]),
        ("backward", 1, 25, 9, 481, [(1, 9, 17)]),
        ("backward", 5, 25, 50, 41, [(5, 25, 33), (16, 25, 41)]),
        ("backward", 9, 25, 9, 481, [(8, 9, 17)]),
        ("backward", 300, 25, 50, 41, [(16, 25, 41), (16, 25, 41)]),
        ("backward", 8, 25, 50, 41, [(8, 25, 33), (16, 25, 41)]),
    ],
)
def test_windows_of_an_extension(
    direction: Direction, available: int, context: int, new: int, limit: int, made: list[tuple[int, int, int]]
) -> None:
    assert list(plan_windows(direction, available, context, new, limit)) == [Window(*one) for one in made]


@given(
    st.sampled_from(get_args(Direction)),
    st.integers(1, 3000),
    st.integers(0, 121),
    st.integers(1, 1441),
    st.integers(2, 60).map(lambda k: 8 * k + 1),
)
def test_windows_make_exactly_what_is_asked(
    direction: Direction, available: int, context: int, new: int, limit: int
) -> None:
    if direction == "backward" and context:
        context = max(context, 8)  # `whole_latent_context` raises it
    made = plan_windows(direction, available, context, new, limit)
    assert sum(one.new_frames for one in made) == new
    there = available
    wanted = context or 25
    for number, one in enumerate(made):
        assert one.sampled_frames % 8 == 1
        assert one.sampled_frames <= limit
        assert one.context_frames <= there
        assert (one.context_frames > 0) == (context > 0 or number > 0)
        assert one.context_frames <= max(limit // 2, 8) or len(made) == 1, "half a window, if there are more"
        if direction == "forward":
            assert one.context_frames % 8 == (one.context_frames > 0)
            assert one.context_frames <= wanted
            made_frames = one.sampled_frames - one.context_frames
        else:
            assert one.context_frames % 8 == 0 or one.context_frames == min(there, wanted) < 8
            assert one.context_frames <= wanted
            made_frames = one.sampled_frames - -(-one.context_frames // 8) * 8
            assert made_frames % 8 == 1
            assert made_frames == one.context_start("backward")
        assert 0 <= made_frames - one.new_frames < 8, "no latent is made in vain"
        there = one.context_frames + one.new_frames
    shares = [one.new_frames for one in made]
    assert max(shares) - min(shares) < 16, "as even as whole latents allow"
    assert min(shares) >= 8 or len(made) == 1 or (direction == "backward" and limit == 17)
    most = limit - made[-1].context_frames
    assert len(made) <= -(-new // most) + (made[0].context_frames != made[-1].context_frames), "no window too many"


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_cut_needs_no_second_window_for_what_one_holds(direction: Direction) -> None:
    assert len(plan_windows(direction, 300, 0, 481, 481)) == 1
    assert len(plan_windows(direction, 300, 0, 482, 481)) == 2


def test_windows_after_the_first_see_all_of_the_context_though_the_source_is_short() -> None:
    short = VideoInfo("mp4", "h264", 1280, 720, Fraction(24), 9)
    forward = make_plan(options(new_frames=1000), short, ltx2_card("ltx-2.3"), 1)
    assert [one.context_frames for one in forward.windows] == [9, 25, 25]
    backward = make_plan(options(new_frames=1000, direction="backward"), short, ltx2_card("ltx-2.3"), 1)
    assert [one.context_frames for one in backward.windows] == [8, 24, 24]
