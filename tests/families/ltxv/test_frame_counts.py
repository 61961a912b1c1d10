"""The frame counts and windows of a 0.9.x plan: tables, and properties that hold for every request."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.families.ltxv.frame_counts import (
    FrameCounts,
    frame_counts,
    guide_counts,
    plan_windows,
    total_counts,
    whole_source_counts,
)
from longtake.plans import clip_length
from tests.families.ltxv.planning import MODEL, options, span


@given(st.integers(1, 400), st.integers(2, 40), st.data())
def test_windows_cover_a_take(total: int, tile: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(1, tile - 1))
    plan = plan_windows(total, tile, overlap)
    assert plan[0].start == 0
    assert plan[-1].stop == total
    assert all(w.stop - w.start <= tile for w in plan)
    assert all(b.start == a.stop - overlap for a, b in pairwise(plan))
    assert all(w.stop - w.start > overlap for w in plan[1:]), "every later window brings something new"


def counted(lengths: FrameCounts) -> tuple[int, int, int, int]:
    return lengths.shown_frames, lengths.context_frames, lengths.new_frames, lengths.billed_frames


@pytest.mark.parametrize(
    ("available", "num_frames", "counts", "take", "note"),
    [
        (60, 121, (57, 57, 64, 121), 121, None),
        (1, 9, (1, 1, 8, 9), 9, None),
        (113, 121, (113, 113, 8, 121), 121, "Only 8 of num_frames = 121 are new"),
        (97, 121, (97, 97, 24, 121), 121, "Only 24 of num_frames = 121 are new"),
        (89, 121, (89, 89, 32, 121), 121, None),
        (120, 121, (113, 113, 8, 121), 121, "Only 8 of num_frames = 121 are new"),
        (121, 121, (121, 57, 64, 121), 121, "the source has 121: all are shown, and 64 are new"),
        (125, 121, (125, 57, 64, 121), 121, "the source has 125"),
        (5000, 121, (5000, 57, 64, 121), 121, "the source has 5000: all are shown"),
        (9, 9, (9, 1, 8, 9), 9, "all are shown, and 8 are new"),
        (9, 16, (9, 1, 15, 16), 17, "all are shown, and 15 are new"),
        (9, 17, (9, 9, 8, 17), 17, None),
        (2000, 1441, (2000, 121, 728, 1441), 849, "all are shown, and 728 are new"),
    ],
)
def test_total_counts(
    available: int, num_frames: int, counts: tuple[int, int, int, int], take: int, note: str | None
) -> None:
    lengths = total_counts(span(available), num_frames, MODEL)
    assert counted(lengths) == counts
    assert lengths.sampled_frames == take
    assert len(lengths.notes) == (note is not None)
    assert note is None or note in lengths.notes[0]


@given(st.integers(1, 3000), st.integers(9, 1441))
def test_a_total_is_never_refused(available: int, num_frames: int) -> None:
    """The output has `num_frames`, or all of the source where that leaves no room, and at least 8 are new."""
    lengths = total_counts(span(available), num_frames, MODEL)
    shown, context, new, billed = counted(lengths)
    assert billed == num_frames
    assert new >= 8
    assert context % 8 == 1
    assert context <= shown <= available
    assert new + context <= lengths.sampled_frames
    assert lengths.sampled_frames % 8 == 1
    if num_frames - clip_length(available) >= 8:
        assert shown + new == num_frames
        assert available - shown < 8, "only what does not fill a latent is left out"
        assert bool(lengths.notes) == (4 * new < num_frames)
    else:
        assert shown == available
        assert num_frames / 2 <= new <= num_frames / 2 + 8
        assert lengths.notes


@given(st.integers(1, 20_000), st.integers(1, 1000))
def test_a_long_source_costs_no_more(length: int, new: int) -> None:
    lengths = whole_source_counts(span(length), new, MODEL)
    assert lengths.shown_frames == length
    assert lengths.new_frames == new
    assert lengths.billed_frames == length + new
    assert lengths.context_frames % 8 == 1
    assert lengths.sampled_frames >= lengths.context_frames + new
    if lengths.sampled_frames > MODEL.window_frames:
        assert lengths.context_frames <= MODEL.max_context_frames
    assert len(lengths.windows) <= 1 + (121 + new + 8) // ((33 - 3) * 8) + 1


def test_a_guide_shows_nothing() -> None:
    lengths = guide_counts(span(500), 121, MODEL)
    assert counted(lengths) == (0, 121, 121, 121)
    assert lengths.sampled_frames == 121


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({"num_frames": 121}, (57, 57, 64, 121)),
        ({"num_frames": 121, "new_frames": 40}, (60, 57, 40, 100)),
        ({"num_frames": 121, "guide": "depth"}, (0, 57, 121, 121)),
        ({"num_frames": 121, "guide": "depth", "new_frames": 40}, (0, 41, 40, 40)),
    ],
)
def test_each_way_of_counting(changes: dict[str, Any], counts: tuple[int, int, int, int]) -> None:
    assert counted(frame_counts(options(**changes), span(60), MODEL)) == counts
