"""The frame counts of LTX-2 requests: tables, properties that hold for every request, and notes for the user."""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.errors import InvalidRequest
from longtake.families.ltx2.frame_counts import FrameCounts, frame_counts, whole_latent_context
from longtake.families.ltx2.options import Direction, LTX2Options
from longtake.families.ltx2.plan import LTX2Plan, make_plan
from tests.families.ltx2.planning import MODEL, SMALL, options, plan, source


@pytest.mark.parametrize(
    ("direction", "requested", "available", "context"),
    [
        ("forward", 0, 300, 0),
        ("forward", 1, 300, 1),
        ("forward", 2, 300, 9),
        ("forward", 8, 300, 9),
        ("forward", 9, 300, 9),
        ("forward", 24, 300, 25),
        ("forward", 25, 300, 25),
        ("forward", 121, 300, 121),
        ("forward", 25, 20, 17),
        ("forward", 25, 1, 1),
        ("backward", 0, 300, 0),
        ("backward", 1, 300, 8),
        ("backward", 8, 300, 8),
        ("backward", 9, 300, 8),
        ("backward", 10, 300, 16),
        ("backward", 24, 300, 24),
        ("backward", 25, 300, 24),
        ("backward", 26, 300, 32),
        ("backward", 121, 300, 120),
        ("backward", 25, 23, 16),
        ("backward", 25, 7, 7),
        ("backward", 1, 3, 3),
    ],
)
def test_a_context_fills_whole_latents(direction: Direction, requested: int, available: int, context: int) -> None:
    assert whole_latent_context(direction, requested, available) == context


@given(st.integers(1, 121), st.integers(8, 3000))
def test_both_directions_see_as_many_latents(requested: int, available: int) -> None:
    forward, backward = (
        whole_latent_context("forward", requested, available),
        whole_latent_context("backward", requested, available),
    )
    assert forward % 8 == 1
    assert backward % 8 == 0
    assert 0 < forward <= available
    assert 8 <= backward <= available
    if available >= 137:
        assert requested <= forward < requested + 8
        assert backward == max(forward - 1, 8)


@pytest.mark.parametrize(
    ("direction", "num_frames", "context", "available", "counts"),
    [
        ("forward", 121, None, 300, FrameCounts(25, 96, 121)),
        ("forward", 33, None, 300, FrameCounts(25, 8, 33)),
        ("forward", 32, None, 300, FrameCounts(17, 15, 32)),
        ("forward", 25, None, 300, FrameCounts(17, 8, 25)),
        ("forward", 9, None, 300, FrameCounts(1, 8, 9)),
        ("forward", 25, None, 9, FrameCounts(9, 16, 25)),
        ("forward", 121, 24, 300, FrameCounts(25, 96, 121)),
        ("forward", 121, 8, 300, FrameCounts(9, 112, 121)),
        ("forward", 121, 121, 50, FrameCounts(49, 72, 121)),
        ("forward", 26, 25, 300, FrameCounts(25, 1, 26)),
        ("forward", 121, 0, 300, FrameCounts(0, 121, 121)),
        ("forward", 9, 0, 1, FrameCounts(0, 9, 9)),
        ("backward", 121, None, 300, FrameCounts(24, 97, 121)),
        ("backward", 31, None, 300, FrameCounts(16, 15, 31)),
        ("backward", 16, None, 300, FrameCounts(8, 8, 16)),
        ("backward", 9, None, 300, FrameCounts(8, 8, 9)),
        ("backward", 121, 25, 300, FrameCounts(24, 97, 121)),
        ("backward", 25, 25, 300, FrameCounts(24, 1, 25)),
        ("backward", 121, 0, 3, FrameCounts(0, 121, 121)),
        ("backward", 121, None, 5, FrameCounts(5, 116, 121)),
        ("backward", 9, None, 5, FrameCounts(5, 8, 9)),
    ],
)
def test_the_context_counts_among_the_frames(
    direction: Direction, num_frames: int, context: int | None, available: int, counts: FrameCounts
) -> None:
    """`context`: the one that the client sent, None where it sent none."""
    sent = {} if context is None else {"context_frames": context, "context_field": "num_context_frames"}
    assert frame_counts(options(direction=direction, num_frames=num_frames, **sent), available) == counts


@pytest.mark.parametrize(
    ("direction", "num_frames", "context", "taken", "more"),
    [("forward", 25, 25, 25, 1), ("forward", 9, 10, 17, 9), ("backward", 24, 25, 24, 1), ("backward", 9, 10, 16, 8)],
)
def test_a_context_that_is_asked_for_and_leaves_no_room_is_refused(
    direction: Direction, num_frames: int, context: int, taken: int, more: int
) -> None:
    requested = options(
        direction=direction, num_frames=num_frames, context_frames=context, context_field="num_context_frames"
    )
    with pytest.raises(InvalidRequest, match=f"must be at least {taken + 1}, {more} more") as raised:
        frame_counts(requested, 300)
    assert (raised.value.loc, raised.value.value) == (("body", "num_context_frames"), context)
    assert raised.value.ctx == {"context_frames": taken, "least_num_frames": taken + 1}


@given(st.sampled_from(get_args(Direction)), st.integers(9, 481), st.integers(0, 121), st.integers(8, 3000))
def test_frames_add_up(direction: Direction, num_frames: int, context: int, available: int) -> None:
    counts = frame_counts(options(direction=direction, num_frames=num_frames, context_frames=context), available)
    assert counts.billed_frames == num_frames
    assert counts.new_frames >= 8
    assert counts.context_frames <= available
    assert (counts.context_frames == 0) == (context == 0)
    if direction == "forward" or num_frames >= 16:
        assert counts.context_frames + counts.new_frames == num_frames
    else:
        assert counts.context_frames in (0, 8), "less than that is no latent"


@given(st.sampled_from(get_args(Direction)), st.integers(1, 1441), st.integers(0, 121), st.integers(8, 3000))
def test_new_frames_that_are_asked_for_come_beside_the_context(
    direction: Direction, new: int, context: int, available: int
) -> None:
    requested = options(direction=direction, num_frames=9, new_frames=new, context_frames=context, context_field="x")
    held = whole_latent_context(direction, context, available)
    assert frame_counts(requested, available) == FrameCounts(held, new, held + new)


def test_another_context_than_the_one_that_was_asked_for_is_told() -> None:
    field: dict[str, Any] = {"context_field": "num_context_frames"}
    assert plan(source()).notes == ()
    assert plan(source(9)).notes == (), "no field asked for more"
    assert plan(source(), context_frames=25, **field).notes == ()
    assert plan(source(), context_frames=24, **field).notes == (
        "num_context_frames asks for 24 frames; the context has 25, for a context fills whole latents.",
    )
    assert plan(source(9), context_frames=25, **field).notes == (
        "num_context_frames asks for 25 frames; the context has 9, for the source has no more.",
    )
    seen = make_plan(options(context_frames=25, **field), source(), SMALL, 7)
    assert seen.notes == (
        "The model sees 17 of the context's 25 frames: its window holds no more beside the new ones.",
    )
    assert (seen.context_frames, seen.new_frames, seen.billed_frames) == (17, 96, 121), "as every model counts"


def plan_of(requested: LTX2Options) -> LTX2Plan:
    return make_plan(requested, source(300), MODEL, 1)


@pytest.mark.parametrize(
    ("requested", "direction", "context", "note"),
    [
        (25, "forward", 25, None),
        (30, "forward", 25, "num_context_frames asks for 30 frames; the context has 25"),
        (15, "backward", 8, "num_context_frames asks for 15 frames; the context has 8"),
        (120, "forward", 113, "num_context_frames asks for 120 frames; the context has 113"),
    ],
)
def test_a_context_may_be_rounded_down(requested: int, direction: Direction, context: int, note: str | None) -> None:
    given = options(
        direction=direction, context_frames=requested, context_field="num_context_frames", context_rounds_down=True
    )
    plan = plan_of(given)
    assert (plan.context_frames, plan.new_frames) == (context, 121 - context)
    assert note is None or plan.notes[0].startswith(note)
    assert bool(plan.notes) == (note is not None)


def test_the_least_of_a_backward_extension_is_named() -> None:
    plan = plan_of(options(direction="backward", num_frames=9))
    assert (plan.context_frames, plan.new_frames, plan.billed_frames) == (8, 8, 9)
    assert plan.notes == ("num_frames is 9; 8 frames of context and 8 new ones are the least that there can be.",)
