"""What of the source is carried into the new frames and their sound, and the notes about it."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from longtake.carried.balance import Balance
from longtake.output.carrying import (
    BALANCE_NOTE,
    DETAIL_NOTE,
    ONE_FRAME_NOTE,
    carried_balance,
    carries_detail,
    carrying_notes,
)
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


@pytest.mark.parametrize(
    ("shown_frames", "balance", "notes"),
    [
        (1, None, (ONE_FRAME_NOTE,)),
        (2, None, (DETAIL_NOTE,)),
        (2, Balance(0.3, 0.0), (DETAIL_NOTE, BALANCE_NOTE)),
    ],
)
def test_notes_say_what_is_carried(shown_frames: int, balance: Balance | None, notes: tuple[str, ...]) -> None:
    # Motion is measured in all source frames next to the new ones, also if the model sees one of them.
    plan: Any = SimpleNamespace(context_frames=1, shown_frames=shown_frames)
    assert carrying_notes(plan, balance) == notes


def sided(left: float, right: float) -> Any:
    """One second of noise at the left side, then one second at the right, with these loudnesses."""
    noise = np.random.default_rng(1).normal(size=48_000).astype(np.float32)
    silent = np.zeros_like(noise)
    return np.stack([np.concatenate([left * noise, silent]), np.concatenate([silent, right * noise])])


@pytest.mark.parametrize(
    ("source_last", "makes_sound", "embedded", "joint"),
    [(False, True, True, 1), (True, True, True, -1), (False, False, True, None), (False, True, False, None)],
)
def test_new_sound_of_a_miniature_gets_the_balance_next_to_it(
    source_last: bool, makes_sound: bool, embedded: bool, joint: float | None
) -> None:
    plan = SimpleNamespace(keeps_source=True, context_frames=9, makes_sound=makes_sound, source_last=source_last)
    job: Any = SimpleNamespace(
        plan=plan, model=SimpleNamespace(stands_in_for="x"), card=SimpleNamespace(embedded=embedded), end_image=None
    )
    balance = carried_balance(job, sided(0.1, 0.1), Settings(carry_detail="stand-in"))
    assert (balance and balance.joint) == (joint and pytest.approx(joint, abs=0.05))
    assert carried_balance(job, None, Settings(carry_detail="stand-in")) is None
    assert carried_balance(job, np.ones((2, 48_000), np.float32), Settings(carry_detail="stand-in")) is None
