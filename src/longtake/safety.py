"""The safety checker: an image classifier over sampled frames of what was made."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longtake.errors import BadCheckpoint, ContentPolicyViolation
from longtake.settings import Settings

FRAMES_APART = 24
"""One frame in so many is looked at."""

UNSAFE_LABELS = frozenset({"nsfw", "unsafe", "porn", "hentai", "sexy", "violence", "gore"})
LEAST_SCORE = 0.5


@dataclass(frozen=True)
class Checker:
    """A loaded classifier: diffusers-style folder of a transformers image classification model."""

    classify: Any

    def check(self, frames: NDArray[np.uint8]) -> None:
        """Raises ContentPolicyViolation where a frame [t, H, W, 3] is flagged."""
        from PIL import Image

        for frame in frames:
            scores = self.classify(Image.fromarray(frame))
            if any(str(s["label"]).lower() in UNSAFE_LABELS and s["score"] >= LEAST_SCORE for s in scores):
                raise ContentPolicyViolation


def checker(settings: Settings) -> tuple[Checker | None, str | None]:
    """The configured checker, or None and a sentence that says so: what is not installed is never said to have run."""
    if settings.safety == "off":
        return None, "The safety checker is off."
    if settings.safety_checkpoint is None:
        return None, "The safety checker did not run: none is configured (LONGTAKE_SAFETY_CHECKPOINT)."
    return _load(settings.safety_checkpoint), None


@lru_cache(maxsize=1)
def _load(folder: Path) -> Checker:
    from transformers import pipeline

    try:
        return Checker(pipeline("image-classification", model=str(folder), model_kwargs={"use_safetensors": True}))
    except Exception as error:  # the library fails in many ways on files that are not a classifier's
        raise BadCheckpoint(f"{folder} holds no usable image classifier: {str(error)[:200]}.") from error


def watched(chunks: Iterator[NDArray[np.float32]], checker: Checker | None) -> Iterator[NDArray[np.float32]]:
    """Chunks of frames [t, H, W, 3] in 0..1 as they come, each frame FRAMES_APART from the last one looked at first."""
    first = 0
    for chunk in chunks:
        if checker is not None:
            checker.check(np.rint(chunk[-first % FRAMES_APART :: FRAMES_APART] * 255).astype(np.uint8))
        first += len(chunk)
        yield chunk
