"""What the takes of both families share: the source's own frames and sound on their way into the file, and its sum."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longtake.clip import OnProgress, Progress, Source
from longtake.endpoints import ENDPOINTS
from longtake.endpoints.shared import VideoFile
from longtake.media import sound
from longtake.media.sound import Samples
from longtake.media.source import SourceReader
from longtake.media.tempo import stretch
from longtake.plan import AnyPlan, Plan

COLOUR_FADE_FRAMES = 24
"""Over so many new frames the autoencoder's colour cast, taken off at the joint, comes back: too slowly to be seen."""

Pixels = NDArray[np.uint8] | NDArray[np.float32]


@dataclass(frozen=True)
class Result:
    """The finished video: the file, the plan it followed, and `notes`, sentences on what was left out."""

    path: Path
    content_type: str
    file_size: int
    plan: AnyPlan
    prompt: str
    has_sound: bool
    notes: tuple[str, ...]

    def response(self, facts: Source, url: str) -> dict[str, Any]:
        """The endpoint's answer as JSON: the file under this address, by its `facts` as read back from it."""
        video = VideoFile(
            url=url,
            content_type=self.content_type,
            file_name=self.path.name,
            file_size=self.file_size,
            width=facts.width,
            height=facts.height,
            fps=float(facts.rate),
            duration=facts.duration_s,
            num_frames=facts.num_frames,
        )
        said = {"video": video, "prompt": self.prompt, "seed": self.plan.seed}
        answer: dict[str, Any] = ENDPOINTS[self.plan.endpoint].Response.model_validate(said).model_dump(mode="json")
        return answer


@dataclass
class Listener:
    """Passes progress on, and can say the last of it again, so that whoever listens may stop long waits."""

    on_progress: OnProgress
    last: Progress = field(default_factory=lambda: Progress("context", 0, 1))

    def __call__(self, progress: Progress) -> None:
        self.last = progress
        self.on_progress(progress)

    def again(self) -> None:
        self.on_progress(self.last)


def show_footage(
    source: SourceReader, plan: Plan, write: Callable[[Pixels], None], on_progress: OnProgress
) -> NDArray[np.uint8]:
    """Reads the footage at the output's size and writes what is shown of it as it is; returns the context, its last
    frames [context_frames, H, W, 3]."""
    context: NDArray[np.uint8] = np.empty((0, plan.height, plan.width, 3), np.uint8)
    done = 0
    for chunk in source.frames(plan.context, (plan.width, plan.height)):
        on_progress(Progress("context", done, len(plan.context)))
        shown = chunk[: max(0, plan.kept_frames - done)]
        if len(shown):
            write(shown)
        context = np.concatenate([context, chunk])[-plan.context_frames :]
        done += len(chunk)
    return context


def source_sound(source: SourceReader, plan: Plan) -> Samples | None:
    """The sound of the shown footage [2, n], at the speed its picture is shown; None where there is none."""
    if not plan.shown_frames:
        return None
    span = plan.context
    samples = source.sound(Fraction(span.start) / span.rate, Fraction(span.stop) / span.rate)
    if samples is None:
        return None
    if span.reverse:
        samples = sound.reverse(samples)
    return stretch(samples, plan.speed, sound.num_samples(plan.shown_frames, plan.rate))


def integers(frames: Pixels, deep: bool) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Frames as full-range integers: of 16 bits where the file keeps more than 8 (`deep`), else of 8, untouched where
    they are already. Floats are in 0..1."""
    if frames.dtype == np.uint8:
        return frames.astype(np.uint16) * 257 if deep else frames.astype(np.uint8, copy=False)
    return np.rint(frames * 65_535).astype(np.uint16) if deep else np.rint(frames * 255).astype(np.uint8)
