"""The context's frames are compressed as they arrive."""

from typing import Any, cast

import numpy as np
import pytest

from longtake.media.crf import compress
from longtake.output.context_compression import ContextCompression
from longtake.plans import Plan
from tests.media.files_out import moving

CRF = 29


class Planned:
    """A plan whose context has `context_frames` frames of 64x48, compressed at `context_crf`."""

    width, height = 64, 48

    def __init__(self, context_frames: int, context_crf: int = CRF) -> None:
        self.context_frames, self.context_crf = context_frames, context_crf


def planned(*facts: int) -> Plan:
    return cast(Plan, Planned(*facts))


@pytest.fixture(scope="module")
def frames() -> Any:
    return moving(40, 48, 64)


def test_frames_that_arrive_in_chunks_become_those_that_are_compressed_together(frames: Any) -> None:
    with ContextCompression(planned(40)) as compression:
        for first in range(0, 40, 16):
            compression.add(frames[first : first + 16])
        assert compression.frames is not None
        assert np.array_equal(compression.frames.result(), compress(frames, CRF))


def test_frames_beyond_the_context_are_not_compressed(frames: Any) -> None:
    with ContextCompression(planned(9)) as compression:
        compression.add(frames)
        assert compression.frames is not None
        assert np.array_equal(compression.frames.result(), compress(frames[:9], CRF))


@pytest.mark.parametrize("facts", [(0, CRF), (9, 0)], ids=["no context", "no compression"])
def test_nothing_is_compressed(facts: tuple[int, int]) -> None:
    with ContextCompression(planned(*facts)) as compression:
        assert compression.frames is None


@pytest.mark.parametrize("added", [0, 16, 40])
def test_the_work_ends_with_the_block(frames: Any, added: int) -> None:
    with ContextCompression(planned(41)) as compression:
        compression.add(frames[:added])
    assert compression.frames is not None
    assert compression.frames.done()
    assert compression.frames.exception() is not None
