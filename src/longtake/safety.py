"""The safety checker: an image classifier that checks one of every 24 new frames."""

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
"""Distance in frames between two checked frames. At 24 frames per second one frame per second is checked."""

UNSAFE_LABELS = frozenset({"nsfw", "unsafe", "porn", "hentai", "sexy", "violence", "gore"})
"""The labels, in lower case, with which common classifiers mark unsafe pictures."""

MIN_SCORE = 0.5
"""The lowest score (0..1) of an unsafe label with which a frame counts as unsafe."""


@dataclass(frozen=True)
class SafetyChecker:
    """Checks frames with `classify`, a loaded image classification pipeline of the transformers library."""

    classify: Any

    def check(self, frames: NDArray[np.uint8]) -> None:
        """Raises ContentPolicyViolation if the classifier flags one of the RGB frames [t, H, W, 3] as unsafe."""
        from PIL import Image

        for frame in frames:
            scores = self.classify(Image.fromarray(frame))
            if any(str(s["label"]).lower() in UNSAFE_LABELS and s["score"] >= MIN_SCORE for s in scores):
                raise ContentPolicyViolation


def configured_checker(settings: Settings) -> tuple[SafetyChecker | None, str | None]:
    """Returns (checker, None), or (None, a sentence for the user that says why no checker runs).

    There is no checker if the settings turn it off, or if they name no folder of a classifier.

    Raises BadCheckpoint if no classifier can be loaded from the folder that the settings name.
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


Codes = NDArray[np.unsignedinteger[Any]]
"""RGB frames [t, H, W, 3]: uint8 with values 0..255, or uint16 with values 0..65535."""


def checked_frames(chunks: Iterator[Codes], checker: SafetyChecker | None) -> Iterator[Codes]:
    """Yields the chunks of frames unchanged. Each chunk is checked before it is yielded.

    Only some frames are checked: the first one and every 24th after it, counted across all chunks. Raises
    ContentPolicyViolation if the checker flags one as unsafe. If `checker` is None, nothing is checked.
    """
    first = 0
    for chunk in chunks:
        if checker is not None:
            chosen = chunk[-first % FRAMES_APART :: FRAMES_APART]
            checker.check((chosen >> (8 * (chosen.itemsize - 1))).astype(np.uint8))
        first += len(chunk)
        yield chunk
