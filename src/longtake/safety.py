"""The safety checker: an image classifier that looks at some of the generated frames."""

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
"""One of this many frames is checked."""

UNSAFE_LABELS = frozenset({"nsfw", "unsafe", "porn", "hentai", "sexy", "violence", "gore"})
MIN_SCORE = 0.5
"""Score in 0..1 from which an unsafe label flags a frame."""


@dataclass(frozen=True)
class SafetyChecker:
    """A loaded transformers image classification pipeline."""

    classify: Any

    def check(self, frames: NDArray[np.uint8]) -> None:
        """Raises ContentPolicyViolation if one of the frames [t, H, W, 3] is flagged as unsafe."""
        from PIL import Image

        for frame in frames:
            scores = self.classify(Image.fromarray(frame))
            if any(str(s["label"]).lower() in UNSAFE_LABELS and s["score"] >= MIN_SCORE for s in scores):
                raise ContentPolicyViolation


def configured_checker(settings: Settings) -> tuple[SafetyChecker | None, str | None]:
    """Returns (checker, None), or (None, a sentence for the log that says why no checker runs).

    Raises BadCheckpoint if the configured folder holds no classifier.
    """
    if settings.safety == "off":
        return None, "The safety checker is off."
    if settings.safety_checkpoint is None:
        return None, "The safety checker did not run: none is configured (LONGTAKE_SAFETY_CHECKPOINT)."
    return _load(settings.safety_checkpoint), None


@lru_cache(maxsize=1)
def _load(folder: Path) -> SafetyChecker:
    from transformers import pipeline

    try:
        return SafetyChecker(
            pipeline("image-classification", model=str(folder), model_kwargs={"use_safetensors": True})
        )
    except Exception as error:  # The library raises many kinds of errors for a folder without a classifier.
        raise BadCheckpoint(f"{folder} holds no usable image classifier: {str(error)[:200]}.") from error


def checked_frames(
    chunks: Iterator[NDArray[np.float32]], checker: SafetyChecker | None
) -> Iterator[NDArray[np.float32]]:
    """Yields the chunks of frames [t, H, W, 3] in 0..1 unchanged, each after its frames were checked.

    Frames 0, FRAMES_APART, 2 x FRAMES_APART, ... are checked. Raises ContentPolicyViolation for a flagged one.
    """
    first = 0
    for chunk in chunks:
        if checker is not None:
            checker.check(np.rint(chunk[-first % FRAMES_APART :: FRAMES_APART] * 255).astype(np.uint8))
        first += len(chunk)
        yield chunk
