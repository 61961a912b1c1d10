"""The plan of LTX-2.3: tables of what the documents say, and properties that hold for every request."""

from fractions import Fraction
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.errors import InvalidRequest
from longtake.families.ltx2.options import Direction, LTX2Options, Modality
from longtake.families.ltx2.plan import (
    POSITION_RANGE_PX,
    Counts,
    Extension,
    LTX2Plan,
    bearable,
    counts_of,
    even,
    exact_rate,
    extensions,
    make_plan,
    scales,
    snapped,
    source_clock,
    window_limit,
)
from longtake.plans import PlannedAdapter
from longtake.video import Span, VideoInfo
from tests.models.cards import ltx2_card

NTSC = Fraction(24000, 1001)
MODEL, SMALL = ltx2_card("ltx-2.3"), ltx2_card("ltx2-tiny")


def source(num_frames: int = 100, rate: Fraction = Fraction(24)) -> VideoInfo:
    return VideoInfo("mp4", "h264", 1280, 720, rate, num_frames)


def options(**changes: Any) -> LTX2Options:
    return LTX2Options(**{"prompt": "a", "video": Modality(), "audio": Modality(), **changes})


def plan(facts: VideoInfo, **changes: Any) -> LTX2Plan:
    return make_plan(options(**changes), facts, MODEL, 7)


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        (24, Fraction(24)),
        (23.976, NTSC),
        (23.98, NTSC),
        (23.976023976023978, NTSC),
        (29.97, Fraction(30000, 1001)),
        (47.952, Fraction(48000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (12.5, Fraction(25, 2)),
        (14.985, Fraction(2997, 200)),
        (1, Fraction(1)),
        (60, Fraction(60)),
    ],
)
def test_a_decimal_rate_means_an_exact_one(fps: float, rate: Fraction) -> None:
    assert exact_rate(fps) == rate


@given(st.floats(1, 60))
def test_every_rate_can_be_stored_and_stays_in_range(fps: float) -> None:
    rate = exact_rate(fps)
    assert 1 <= rate <= 60
    assert rate.denominator <= 1001
    assert abs(rate - Fraction(fps)) < Fraction("0.0051")


@pytest.mark.parametrize(
    ("rate", "fps", "clock", "num_frames"),
    [
        (NTSC, None, NTSC, 100),
        (NTSC, 24, Fraction(24), 100),
        (Fraction(24), 12, Fraction(12), 50),
        (Fraction(120), None, Fraction(60), 50),
        (Fraction(1, 2), None, Fraction(1), 200),
        (Fraction(25), 29.97, Fraction(30000, 1001), 120),
    ],
)
def test_the_source_is_read_on_the_outputs_clock(
    rate: Fraction, fps: float | None, clock: Fraction, num_frames: int
) -> None:
    assert source_clock(source(100, rate), fps) == clock
    made = plan(source(100, rate), frame_rate=fps)
    assert (made.rate, made.context) == (clock, Span(0, num_frames, clock))
    assert plan(source(100, rate), frame_rate=fps, own_rate=True).rate == source_clock(source(100, rate), None)


@given(st.integers(1, 500), st.fractions(Fraction(1, 50), 120, max_denominator=1001), st.none() | st.integers(1, 60))
def test_a_source_lasts_as_long_at_any_rate(num_frames: int, rate: Fraction, fps: int | None) -> None:
    made = plan(source(num_frames, rate), frame_rate=fps)
    assert 1 <= made.rate <= 60
    assert abs(len(made.context) / made.rate - num_frames / rate) <= 1 / made.rate


def test_a_slow_source_is_told_what_becomes_of_it() -> None:
    told = "The source has 0.5 frames per second; its frames are repeated at"
    assert plan(source(10, Fraction(1, 2))).notes == (f"{told} 1.",)
    assert plan(source(10, Fraction(1, 2)), frame_rate=24).notes == (f"{told} 24.",)
    assert plan(source(10, Fraction(1))).notes == ()


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
    ("direction", "asked", "available", "context"),
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
    ],
)
def test_a_context_fills_whole_latents(direction: Direction, asked: int, available: int, context: int) -> None:
    assert snapped(direction, asked, available) == context


@given(st.integers(1, 121), st.integers(8, 3000))
def test_both_directions_see_as_many_latents(asked: int, available: int) -> None:
    forward, backward = snapped("forward", asked, available), snapped("backward", asked, available)
    assert forward % 8 == 1
    assert backward % 8 == 0
    assert 0 < forward <= available
    assert 8 <= backward <= available
    if available >= 137:
        assert asked <= forward < asked + 8
        assert backward == max(forward - 1, 8)


@pytest.mark.parametrize(
    ("direction", "num_frames", "context", "available", "counts"),
    [
        ("forward", 121, None, 300, Counts(25, 96, 121)),
        ("forward", 33, None, 300, Counts(25, 8, 33)),
        ("forward", 32, None, 300, Counts(17, 15, 32)),
        ("forward", 25, None, 300, Counts(17, 8, 25)),
        ("forward", 9, None, 300, Counts(1, 8, 9)),
        ("forward", 25, None, 9, Counts(9, 16, 25)),
        ("forward", 121, 24, 300, Counts(25, 96, 121)),
        ("forward", 121, 8, 300, Counts(9, 112, 121)),
        ("forward", 121, 121, 50, Counts(49, 72, 121)),
        ("forward", 26, 25, 300, Counts(25, 1, 26)),
        ("forward", 121, 0, 300, Counts(0, 121, 121)),
        ("forward", 9, 0, 1, Counts(0, 9, 9)),
        ("backward", 121, None, 300, Counts(24, 97, 121)),
        ("backward", 31, None, 300, Counts(16, 15, 31)),
        ("backward", 16, None, 300, Counts(8, 8, 16)),
        ("backward", 9, None, 300, Counts(8, 8, 9)),
        ("backward", 121, 25, 300, Counts(24, 97, 121)),
        ("backward", 25, 25, 300, Counts(24, 1, 25)),
        ("backward", 121, 0, 3, Counts(0, 121, 121)),
    ],
)
def test_the_context_counts_among_the_frames(
    direction: Direction, num_frames: int, context: int | None, available: int, counts: Counts
) -> None:
    """`context`: the one that the client sent, None where it sent none."""
    sent = {} if context is None else {"context_frames": context, "context_field": "num_context_frames"}
    assert counts_of(options(direction=direction, num_frames=num_frames, **sent), available) == counts


@pytest.mark.parametrize(
    ("direction", "num_frames", "context", "taken", "more"),
    [("forward", 25, 25, 25, 1), ("forward", 9, 10, 17, 9), ("backward", 24, 25, 24, 1), ("backward", 9, 10, 16, 8)],
)
def test_a_context_that_is_asked_for_and_leaves_no_room_is_refused(
    direction: Direction, num_frames: int, context: int, taken: int, more: int
) -> None:
    asked = options(
        direction=direction, num_frames=num_frames, context_frames=context, context_field="num_context_frames"
    )
    with pytest.raises(InvalidRequest, match=f"must be at least {taken + 1}, {more} more") as told:
        counts_of(asked, 300)
    assert (told.value.loc, told.value.value) == (("body", "num_context_frames"), context)
    assert told.value.ctx == {"context_frames": taken, "least_num_frames": taken + 1}


@given(st.sampled_from(get_args(Direction)), st.integers(9, 481), st.integers(0, 121), st.integers(8, 3000))
def test_frames_add_up(direction: Direction, num_frames: int, context: int, available: int) -> None:
    counts = counts_of(options(direction=direction, num_frames=num_frames, context_frames=context), available)
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
    asked = options(direction=direction, num_frames=9, new_frames=new, context_frames=context, context_field="x")
    kept = snapped(direction, context, available)
    assert counts_of(asked, available) == Counts(kept, new, kept + new)


def test_backward_needs_a_whole_latent_of_context() -> None:
    with pytest.raises(InvalidRequest, match="has 7 frames; to be extended backward it needs at least 8") as error:
        counts_of(options(direction="backward"), 7)
    assert error.value.loc == ("body", "extend_direction")
    assert error.value.ctx == {"min_frames": 8}
    assert counts_of(options(direction="backward", context_frames=0), 7).context_frames == 0


def test_another_context_than_the_one_that_was_asked_for_is_told() -> None:
    field: dict[str, Any] = {"context_field": "num_context_frames"}
    assert plan(source()).notes == ()
    assert plan(source(9)).notes == (), "nobody asked for more"
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
        ("forward", 300, 25, 481, 481, [(25, 248, 273), (25, 233, 265)]),
        ("forward", 5, 25, 60, 41, [(1, 24, 25), (17, 24, 41), (17, 12, 33)]),
        ("forward", 300, 121, 360, 481, [(121, 360, 481)]),
        ("forward", 300, 121, 361, 481, [(121, 184, 305), (121, 177, 305)]),
        ("forward", 300, 121, 24, 145, [(121, 24, 145)]),
        ("forward", 300, 121, 25, 145, [(113, 25, 145)]),
        ("forward", 300, 0, 121, 481, [(0, 121, 121)]),
        ("forward", 300, 0, 122, 481, [(0, 122, 129)]),
        ("forward", 300, 0, 500, 481, [(0, 256, 257), (25, 244, 273)]),
        ("forward", 300, 0, 60, 41, [(0, 24, 25), (17, 24, 41), (17, 12, 33)]),
        ("backward", 300, 25, 121, 481, [(24, 121, 145)]),
        ("backward", 300, 120, 361, 481, [(120, 361, 481)]),
        ("backward", 300, 120, 362, 481, [(120, 185, 305), (120, 177, 297)]),
        ("backward", 300, 120, 25, 145, [(120, 25, 145)]),
        ("backward", 300, 120, 26, 145, [(112, 26, 145)]),
        ("backward", 300, 0, 121, 481, [(0, 121, 121)]),
        ("backward", 3, 0, 50, 41, [(0, 25, 25), (16, 25, 41)]),
        ("backward", 300, 25, 122, 481, [(24, 122, 153)]),
        ("backward", 300, 1, 9, 481, [(8, 9, 17)]),
        ("backward", 9, 25, 9, 481, [(8, 9, 17)]),
        ("backward", 300, 25, 50, 41, [(16, 25, 41), (16, 25, 41)]),
        ("backward", 8, 25, 50, 41, [(8, 25, 33), (16, 25, 41)]),
    ],
)
def test_windows_of_an_extension(
    direction: Direction, available: int, context: int, new: int, limit: int, made: list[tuple[int, int, int]]
) -> None:
    assert list(extensions(direction, available, context, new, limit)) == [Extension(*one) for one in made]


@given(
    st.sampled_from(get_args(Direction)),
    st.integers(8, 3000),
    st.integers(0, 121),
    st.integers(1, 1441),
    st.integers(2, 60).map(lambda k: 8 * k + 1),
)
def test_windows_make_exactly_what_is_asked(
    direction: Direction, available: int, context: int, new: int, limit: int
) -> None:
    made = extensions(direction, available, context, new, limit)
    assert sum(one.new_frames for one in made) == new
    there = available
    wanted = context or 25
    for number, one in enumerate(made):
        assert one.take_frames % 8 == 1
        assert one.take_frames <= limit
        assert one.context_frames <= there
        assert (one.context_frames > 0) == (context > 0 or number > 0)
        assert one.context_frames <= max(limit // 2, 8) or len(made) == 1, "half a window, if there are more"
        made_frames = one.take_frames - one.context_frames
        if direction == "forward":
            assert one.context_frames % 8 == (one.context_frames > 0)
            assert one.context_frames <= wanted
        else:
            assert one.context_frames % 8 == 0
            assert one.context_frames <= max(wanted, 8)
            assert made_frames % 8 == 1
        assert 0 <= made_frames - one.new_frames < 8, "no latent is made in vain"
        there = one.context_frames + one.new_frames
    most = limit - made[-1].context_frames
    assert len(made) <= -(-new // most) + (made[0].context_frames != made[-1].context_frames), "no window too many"


@pytest.mark.parametrize(
    ("size", "canvases"),
    [
        ((1248, 704), [(640, 352), (1280, 704)]),
        ((1280, 720), [(640, 384), (1280, 768)]),
        ((1920, 1080), [(960, 544), (1920, 1088)]),
        ((512, 512), [(256, 256), (512, 512)]),
        ((2, 2), [(32, 32), (64, 64)]),
        ((3840, 2160), [(1024, 576), (2048, 1152)]),
        ((2160, 3840), [(576, 1024), (1152, 2048)]),
    ],
)
def test_canvases_of_a_published_model(size: tuple[int, int], canvases: list[tuple[int, int]]) -> None:
    assert scales(size, 2, MODEL) == tuple(canvases)


def test_one_scale_is_rounded_up_to_the_latent() -> None:
    assert scales((1280, 720), 1, MODEL) == ((1280, 736),)


def test_a_small_model_works_on_its_own_canvas() -> None:
    assert scales((1280, 720), 2, SMALL) == ((112, 64), (224, 128))
    assert scales((720, 1280), 1, SMALL) == ((64, 112),)


@given(st.integers(2, 8192), st.integers(2, 8192), st.integers(1, 2))
def test_a_canvas_covers_the_size_within_the_positions(width: int, height: int, count: int) -> None:
    *_, last = scales((width, height), count, MODEL)
    assert all(side % (32 * count) == 0 for side in last)
    assert max(last) <= POSITION_RANGE_PX
    if max(width, height) <= POSITION_RANGE_PX:
        assert all(0 <= given - asked < 32 * count for given, asked in zip(last, (width, height), strict=True))


@pytest.mark.parametrize(
    ("size", "wanted"), [((1920, 1080), (1920, 1080)), ((1919, 1079), (1918, 1078)), ((1, 1), (2, 2))]
)
def test_sizes_are_made_even(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    assert even(size) == wanted


@given(st.floats(1, 20), st.floats(0, 20), st.floats(1, 10), st.floats(0, 1))
def test_a_small_model_is_guided_by_a_share_of_each_scale(cfg: float, stg: float, mod: float, share: float) -> None:
    asked = Modality(cfg=cfg, stg=stg, modality=mod, rescale=0.7)
    assert bearable(asked, 1.0) == asked
    assert bearable(asked, 0.0) == Modality(cfg=1, stg=0, modality=1, rescale=0.7)
    less = bearable(asked, share)
    assert 1 <= less.cfg <= cfg + 1e-9
    assert 0 <= less.stg <= stg
    assert 1 <= less.modality <= mod + 1e-9


def test_a_pass_has_its_canvas_and_each_adapter_a_scale_for_it() -> None:
    distill = PlannedAdapter("distill", (0.2, 0.5), ("body", "distill_lora_first_pass_scale"), own=True)
    late = PlannedAdapter("late", (0.0, 1.0), ("body", "loras", 0, "path"))
    both = plan(source(), adapters=(distill, late))
    assert both.scales == ((640, 384), (1280, 768))
    assert both.adapters == (distill, late)
    single = plan(source(), adapters=(distill, late), multiscale=False)
    assert single.scales == ((1280, 736),)
    assert [(one.source, one.scales) for one in single.adapters] == [("distill", (0.2,))], "the other is at 0"
