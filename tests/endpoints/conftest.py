"""Fixtures that carry out short requests on the embedded models."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.endpoints import Endpoint
from longtake.families.ltx2.plan import LTX2Plan
from longtake.media.encode import Encoder
from longtake.media.formats import output_format
from longtake.media.source import open_source
from longtake.models.choice import named_model
from longtake.models.lora_files import LoraSources
from longtake.models.registry import card, missing
from longtake.planning import Overrides
from longtake.prepare import Fetcher, Job, prepare
from longtake.runner import Result, Runner
from longtake.settings import settings
from longtake.video import Span
from tests.endpoints.planning import request_of

NEW, LENGTH, STEPS = 8, 25, 4
"""Number of new frames, of source frames, and of steps."""


class Make(Protocol):
    """Carries out a request with these fields; `NEW` frames are added to the clip."""

    def __call__(self, endpoint: Endpoint[Any, Any], fields: Mapping[str, Any], /) -> Result: ...


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A red disc that falls over a blue ground, with a tone."""
    path = tmp_path_factory.mktemp("every") / "clip.mp4"
    ys, xs = np.mgrid[:96, :128]
    frames = np.empty((LENGTH, 96, 128, 3), np.uint8)
    frames[:] = (40, 80, 220)
    for number in range(LENGTH):
        frames[number][(xs - 64) ** 2 + (ys - 20 - 2 * number) ** 2 < 15**2] = (220, 40, 40)
    tone = 0.3 * np.sin(np.arange(LENGTH * 2000) * 2 * np.pi * 440 / 48_000)
    with Encoder(path, output_format("X264 (.mp4)", "high", "fast"), 128, 96, Fraction(24), sound_rate=48_000) as video:
        video.write_sound(np.stack([tone, tone]).astype(np.float32))
        video.write(frames)
    return path


@pytest.fixture(scope="module")
def runner() -> Runner:
    return Runner(settings(), LoraSources(any_path=True))


def hurried(job: Job) -> Job:
    """The job with at most `STEPS` steps of LTX-2, fewer than a request may have."""
    plan = job.plan
    return replace(job, plan=replace(plan, steps=min(plan.steps, STEPS))) if isinstance(plan, LTX2Plan) else job


@pytest.fixture
def make(runner: Runner, clip: Path, tmp_path: Path) -> Make:
    def carry_out(endpoint: Endpoint[Any, Any], fields: Mapping[str, Any], /) -> Result:
        model = card(endpoint.models[1])
        if missing(model, settings()):
            pytest.skip(f"the weights of {model.name} are not in the package")
        *parents, last = endpoint.source_field
        place: Any = {last: str(clip)}
        for name in parents:
            place = {name: place}
        overrides = Overrides(new_frames=NEW, own_rate=True, seed=3, write_mode="fast")
        request, local = request_of(endpoint, {**fields, **place}), Fetcher(allow_local=True)
        chosen = named_model(model.name, settings())
        with prepare(endpoint, request, chosen, settings(), overrides=overrides, fetcher=local) as job:
            return runner.run(
                hurried(job), tmp_path / f"{len(list(tmp_path.iterdir()))}{job.plan.output_format.suffix}"
            )

    return carry_out


@lru_cache(4)
def frames_of(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Returns all frames of a file at its own rate, [n, H, W, 3]."""
    with open_source(path) as file:
        return np.concatenate(list(file.frames(Span(0, file.facts.num_frames, file.facts.rate), size)))


def sound_of(path: Path, start: int, stop: int) -> NDArray[np.float32]:
    """Returns the sound of frames [start, stop) at 24 frames per second, [2, n]."""
    with open_source(path) as file:
        heard = file.sound(Fraction(start, 24), Fraction(stop, 24))
    assert heard is not None
    return heard
