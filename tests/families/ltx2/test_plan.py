"""The arithmetic of LTX-2.3 plans: tables of what the documents say, and properties that hold for every request."""

from fractions import Fraction
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.clip import Source
from longtake.errors import InvalidRequest
from longtake.plans import Direction, Extension, Modality, Scale
from longtake.families.ltx2.plan import (
    POSITION_RANGE_PX,
    bearable,
    even,
    exact_rate,
    extensions,
    scales,
    source_clock,
    whole_span,
    window_limit,
)

NTSC = Fraction(24000, 1001)


class Model:
    """Facts of a model as the registry's cards state them."""

    name = "m"
    native_short_side: int | None = None
    spatial_compression = 32
    window_frames = 1201
    stg_blocks = (28,)
    guidance_share = 1.0


class Small(Model):
    native_short_side = 64
    spatial_compression = 16
    window_frames = 41


def source(num_frames: int = 100, rate: Fraction = Fraction(24)) -> Source:
    return Source("mp4", "h264", 1280, 720, rate, num_frames)


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
    span = whole_span(source(100, rate), source_clock(source(100, rate), fps))
    assert (span.rate, span.start, span.stop) == (clock, 0, num_frames)


@pytest.mark.parametrize(
    ("rate", "model", "limit"),
    [(24, Model, 481), (25, Model, 497), (60, Model, 1201), (1, Model, 17), (24, Small, 41), (1, Small, 17)],
)
def test_a_window_lasts_as_long_as_positions_reach(rate: int, model: type[Model], limit: int) -> None:
    assert window_limit(Fraction(rate), model()) == limit


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
        ("backward", 300, 25, 121, 481, [(24, 121, 145)]),
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


def test_backward_needs_a_whole_latent_of_context() -> None:
    with pytest.raises(InvalidRequest, match="has 7 frames; to be extended backward it needs at least 8") as error:
        extensions("backward", 7, 25, 121, 481)
    assert error.value.loc == ("body", "extend_direction")


@given(
    st.sampled_from(get_args(Direction)),
    st.integers(8, 3000),
    st.integers(1, 121),
    st.integers(1, 1441),
    st.integers(2, 60).map(lambda k: 8 * k + 1),
)
def test_windows_make_exactly_what_is_asked(
    direction: Direction, available: int, context: int, new: int, limit: int
) -> None:
    made = extensions(direction, available, context, new, limit)
    assert sum(one.new_frames for one in made) == new
    there = available
    for one in made:
        assert one.take_frames % 8 == 1
        assert one.take_frames <= limit
        assert 0 < one.context_frames <= min(there, max(limit // 2, 8))
        made_frames = one.take_frames - one.context_frames
        if direction == "forward":
            assert one.context_frames % 8 == 1
            assert one.context_frames <= context
        else:
            assert one.context_frames % 8 == 0
            assert one.context_frames <= max(context, 8)
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
    assert scales(size, (0.2, 0.5), Model()) == (Scale(canvases[0], 0.2), Scale(canvases[1], 0.5))


def test_one_scale_is_rounded_up_to_the_latent() -> None:
    assert scales((1280, 720), (0.2,), Model()) == (Scale((1280, 736), 0.2),)


def test_a_small_model_works_on_its_own_canvas() -> None:
    assert [one.canvas for one in scales((1280, 720), (0, 0), Small())] == [(112, 64), (224, 128)]
    assert [one.canvas for one in scales((720, 1280), (0,), Small())] == [(64, 112)]


@given(st.integers(2, 8192), st.integers(2, 8192), st.integers(1, 2))
def test_a_canvas_covers_the_size_within_the_positions(width: int, height: int, count: int) -> None:
    *_, last = scales((width, height), (0.0,) * count, Model())
    assert all(side % (32 * count) == 0 for side in last.canvas)
    assert max(last.canvas) <= POSITION_RANGE_PX
    if max(width, height) <= POSITION_RANGE_PX:
        assert all(0 <= given - asked < 32 * count for given, asked in zip(last.canvas, (width, height), strict=True))


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
