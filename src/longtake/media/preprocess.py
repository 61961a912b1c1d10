"""Turns a video into a video of edges, depth or poses, which LoRAs for guided generation take as their guide."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longtake.errors import NotSupported
from longtake.settings import Settings
from longtake.video import Check, no_check

Frames = NDArray[np.uint8]
"""RGB frames [T, H, W, 3]."""

CANNY_LOW, CANNY_HIGH = 100, 200
"""The lower and the upper gradient threshold of the edge detector; usual values for 8-bit pictures."""

SKELETON = (
    (5, 7), (7, 9), (6, 8), (8, 10), (5, 6), (5, 11), (6, 12), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16),
    (0, 1), (0, 2), (1, 3), (2, 4),
)  # fmt: skip
"""Pairs of key points of a body that are connected by a line. The numbers 0..16 are those of COCO."""

MIN_CONFIDENCE = 0.3
"""Lowest score (0..1) of a key point of a body that is drawn. The score says how sure the detector is."""


def preprocess(frames: Frames, kind: str, settings: Settings, check: Check = no_check) -> Frames:
    """Returns the edges, depth or poses of `frames` as a video of the same shape [T, H, W, 3].

    `kind` is canny (edges), depth or pose. For any other kind, such as rgb, the frames are returned unchanged. Depth
    and pose need a model, whose folder is in `settings`. If no folder is set, raises NotSupported, which names the
    missing setting.

    `check` is called for each frame, which takes seconds on a CPU. It may raise an exception to end the work.
    """
    match kind:
        case "canny":
            return canny(frames, check)
        case "depth":
            return depth(frames, _configured(settings.depth_checkpoint, "depth"), check)
        case "pose":
            return pose(frames, _configured(settings.pose_checkpoint, "pose"), check)
        case _:
            return frames


def _configured(checkpoint: Path | None, kind: str) -> Path:
    if checkpoint is None:
        raise NotSupported(
            f"video.preprocess to {kind} needs a {kind} model, and none is configured; "
            f"set LONGTAKE_{kind.upper()}_CHECKPOINT to a folder that holds one, or send a {kind} video.",
            loc=("body", "video", "preprocess"),
            value=True,
        )
    return checkpoint


def _each(frames: Frames, check: Check) -> Iterator[Frames]:
    for frame in frames:
        check()
        yield frame


def canny(frames: Frames, check: Check = no_check) -> Frames:
    """Returns frames [T, H, W, 3] with the edges of `frames` in white on black, found by OpenCV's Canny detector."""
    import cv2

    edges = [
        cv2.Canny(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), CANNY_LOW, CANNY_HIGH) for frame in _each(frames, check)
    ]
    return np.repeat(np.stack(edges)[..., None], 3, axis=3)


def depth(frames: Frames, checkpoint: Path, check: Check = no_check) -> Frames:
    """Returns frames [T, H, W, 3] with the depth of `frames` in grey. White is the nearest point of the whole clip.

    `checkpoint` is the folder of a depth estimation model for the transformers library.
    """
    import torch
    from PIL import Image

    estimate = _pipeline("depth-estimation", checkpoint)
    pictures = (Image.fromarray(frame) for frame in _each(frames, check))
    maps = torch.stack([estimate(picture)["predicted_depth"].squeeze() for picture in pictures]).float()
    maps = torch.nn.functional.interpolate(maps[:, None], frames.shape[1:3], mode="bilinear")[:, 0]
    low, high = maps.min(), maps.max()
    grey = ((maps - low) / (high - low).clamp(min=1e-6) * 255).round().byte().numpy()
    return np.repeat(grey[..., None], 3, axis=3)


def pose(frames: Frames, checkpoint: Path, check: Check = no_check) -> Frames:
    """Returns frames [T, H, W, 3] with the skeleton of the person in `frames`, in white on black.

    Each frame is assumed to show one person.

    `checkpoint` is the folder of a ViTPose model for the transformers library.
    """
    import cv2

    model, processor = _pose_model(checkpoint)
    drawn = np.zeros_like(frames)
    height, width = frames.shape[1:3]
    for canvas, frame in zip(drawn, _each(frames, check), strict=True):
        box = [[[0.0, 0.0, float(width), float(height)]]]
        inputs = processor(frame, boxes=box, return_tensors="pt")
        found = processor.post_process_pose_estimation(model(**inputs), boxes=box)[0][0]
        points = {
            int(label): (round(float(x)), round(float(y)))
            for label, (x, y), score in zip(found["labels"], found["keypoints"], found["scores"], strict=True)
            if score >= MIN_CONFIDENCE
        }
        for a, b in SKELETON:
            if a in points and b in points:
                cv2.line(canvas, points[a], points[b], (255, 255, 255), max(1, min(height, width) // 120))
    return drawn


@lru_cache(maxsize=2)
def _pipeline(task: str, checkpoint: Path) -> Any:
    from transformers import pipeline

    return pipeline(task, model=str(checkpoint), model_kwargs={"use_safetensors": True})


@lru_cache(maxsize=1)
def _pose_model(checkpoint: Path) -> tuple[Any, Any]:
    from transformers import AutoProcessor, VitPoseForPoseEstimation

    model = VitPoseForPoseEstimation.from_pretrained(checkpoint, use_safetensors=True, local_files_only=True).eval()
    return model, AutoProcessor.from_pretrained(checkpoint, local_files_only=True)
