"""Whether the source's detail is carried into the new frames, and the note about it."""

from types import SimpleNamespace
from typing import Any

import pytest

from longtake.output.carrying import DETAIL_NOTE, ONE_FRAME_NOTE, carries_detail, carrying_note
from longtake.settings import Settings


@pytest.mark.parametrize(
    ("setting", "stands_in_for", "end_image", "keeps_source", "carries"),
    [
        ("stand-in", "ltxv-13b", None, True, True),
        ("stand-in", None, None, True, False),
        ("always", None, None, True, True),
        ("never", "ltxv-13b", None, True, False),
        ("always", "ltxv-13b", "an image", True, False),
        ("always", "ltxv-13b", None, False, False),
    ],
)
def test_detail_is_carried_where_the_setting_says(
    setting: Any, stands_in_for: str | None, end_image: str | None, keeps_source: bool, carries: bool
) -> None:
    plan = SimpleNamespace(keeps_source=keeps_source, context_frames=9)
    job: Any = SimpleNamespace(plan=plan, model=SimpleNamespace(stands_in_for=stands_in_for), end_image=end_image)
    assert carries_detail(job, Settings(carry_detail=setting)) == carries


@pytest.mark.parametrize(("context_frames", "note"), [(1, ONE_FRAME_NOTE), (2, DETAIL_NOTE)])
def test_the_note_says_whether_the_source_shows_a_motion(context_frames: int, note: str) -> None:
    plan: Any = SimpleNamespace(context_frames=context_frames)
    assert carrying_note(plan) == note
