"""The plan of LTX-2.3: tables from the documents, and properties that hold for every request."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.families.ltx2.options import GuidanceScales
from longtake.families.ltx2.plan import (
    POSITION_RANGE_PX,
    even_size,
    exact_rate,
    output_rate,
    pass_canvases,
    scaled_guidance,
)
from longtake.plans import PlannedAdapter
from longtake.video import Span
from tests.families.ltx2.planning import MODEL, NTSC, SMALL, plan, source


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
    assert output_rate(source(100, rate), fps) == clock
    made = plan(source(100, rate), frame_rate=fps)
    assert (made.rate, replace(made.context, shift=Fraction(0))) == (clock, Span(0, num_frames, clock))
    assert plan(source(100, rate), frame_rate=fps, own_rate=True).rate == output_rate(source(100, rate), None)


@given(st.integers(1, 500), st.fractions(Fraction(1, 50), 120, max_denominator=1001), st.none() | st.integers(1, 60))
def test_a_source_lasts_as_long_at_any_rate(num_frames: int, rate: Fraction, fps: int | None) -> None:
    made = plan(source(num_frames, rate), frame_rate=fps)
    assert 1 <= made.rate <= 60
    assert abs(len(made.context) / made.rate - num_frames / rate) <= 1 / made.rate


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
    assert pass_canvases(size, 2, MODEL) == tuple(canvases)


def test_one_scale_is_rounded_up_to_the_latent() -> None:
    assert pass_canvases((1280, 720), 1, MODEL) == ((1280, 736),)


def test_a_small_model_works_on_its_own_canvas() -> None:
    assert pass_canvases((1280, 720), 2, SMALL) == ((112, 64), (224, 128))
    assert pass_canvases((720, 1280), 1, SMALL) == ((64, 112),)


@given(st.integers(2, 8192), st.integers(2, 8192), st.integers(1, 2))
def test_a_canvas_covers_the_size_within_the_positions(width: int, height: int, count: int) -> None:
    *_, last = pass_canvases((width, height), count, MODEL)
    assert all(side % (32 * count) == 0 for side in last)
    assert max(last) <= POSITION_RANGE_PX
    if max(width, height) <= POSITION_RANGE_PX:
        assert all(0 <= given - requested < 32 * count for given, requested in zip(last, (width, height), strict=True))


@pytest.mark.parametrize(
    ("size", "wanted"), [((1920, 1080), (1920, 1080)), ((1919, 1079), (1918, 1078)), ((1, 1), (2, 2))]
)
def test_sizes_are_made_even(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    assert even_size(size) == wanted


@given(st.floats(1, 20), st.floats(0, 20), st.floats(1, 10), st.floats(0, 1))
def test_a_small_model_is_guided_by_a_share_of_each_scale(cfg: float, stg: float, mod: float, share: float) -> None:
    requested = GuidanceScales(cfg=cfg, stg=stg, modality=mod, rescale=0.7)
    assert scaled_guidance(requested, 1.0) == requested
    assert scaled_guidance(requested, 0.0) == GuidanceScales(cfg=1, stg=0, modality=1, rescale=0.7)
    less = scaled_guidance(requested, share)
    assert 1 <= less.cfg <= cfg + 1e-9
    assert 0 <= less.stg <= stg
    assert 1 <= less.modality <= mod + 1e-9


def test_a_pass_has_its_canvas_and_each_adapter_a_scale_for_it() -> None:
    distill = PlannedAdapter("distill", (0.2, 0.5), ("body", "distill_lora_first_pass_scale"), own=True)
    late = PlannedAdapter("late", (0.0, 1.0), ("body", "loras", 0, "path"))
    both = plan(source(), adapters=(distill, late))
    assert both.canvases == ((640, 384), (1280, 768))
    assert both.adapters == (distill, late)
    single = plan(source(), adapters=(distill, late), multiscale=False)
    assert single.canvases == ((1280, 736),)
    assert [(one.source, one.scales) for one in single.adapters] == [("distill", (0.2,))], "the other is at 0"
