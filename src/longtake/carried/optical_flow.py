"""Optical flow: measures for each pixel of a picture where it is in another picture."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.float32]
"""Frames [t, H, W, 3], or one frame [H, W, 3], in 0..1."""

Luma = NDArray[np.uint8]
"""The luma of a frame, [h, w]."""

Field = NDArray[np.float32]
"""A displacement (right, down) in pixels for each pixel of a frame that is scaled down to h rows (at most FLOW_HEIGHT)
and w columns: [h, w, 2]."""

LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""The shares of red, green and blue in luma (BT.709)."""

FLOW_HEIGHT = 240
"""Frames with more rows than this are scaled down to this many rows before optical flow is computed."""

LEAST_SIDE = 12
"""Frames with fewer rows or columns are padded before optical flow is computed, because OpenCV refuses them."""

SMOOTHING = 1 / 20
"""Standard deviation of the Gaussian that smooths the optical flow, as a share of the frame's height. Without smoothing
the moved picture would look torn."""

LEAST_CONTRAST = 2.0
"""Where the motion of pixels is averaged, each pixel is weighted by the contrast around it. This much contrast, in
8-bit code values per pixel, is added to every weight, so that flat areas count a little, too."""


def as_picture(frame: NDArray[Any]) -> Pictures:
    """Returns a frame [H, W, 3] of 8-bit integers in 0..1. One that is in 0..1 already is returned as it is."""
    picture: Pictures = np.divide(frame, np.float32(255), dtype=np.float32) if frame.dtype == np.uint8 else frame
    return picture


def scaled_down(frame: NDArray[Any], columns: int, rows: int) -> Pictures:
    """Returns a frame in 0..1, scaled down to at most so many columns and rows. Its shape stays nearly the same."""
    height, width = frame.shape[:2]
    shrunk = min(1.0, columns / width, rows / height)
    size = (max(1, round(width * shrunk)), max(1, round(height * shrunk)))
    scaled: Pictures = cv2.resize(as_picture(frame), size, interpolation=cv2.INTER_AREA)
    return scaled


def shrunk(frames: NDArray[np.uint8], columns: int, rows: int) -> NDArray[np.uint8]:
    """Returns frames [T, H, W, 3] of 8-bit integers, scaled down to at most so many columns and rows."""
    small = [(scaled_down(frame, columns, rows) * 255).round().astype(np.uint8) for frame in frames]
    return np.stack(small)


def rough_flow(to: Luma, back: Luma, start: Field | None = None) -> Field:
    """Returns for each pixel of the picture `to` where it is in the picture `back`: the displacement (x, y) in pixels,
    [h, w, 2].

    It is found by dense inverse search (Kroeger 2016) and not smoothed.

    start: the displacements from which the search starts; None starts from 0.
    """
    height, width = to.shape
    if min(height, width) < LEAST_SIDE:
        sides = (0, max(0, LEAST_SIDE - height), 0, max(0, LEAST_SIDE - width))
        known = (to, back) if start is None else (to, back, start)
        padded = (cv2.copyMakeBorder(values, *sides, cv2.BORDER_REPLICATE) for values in known)
        return rough_flow(*padded)[:height, :width]
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    if len(to) <= FLOW_HEIGHT // 2:
        search.setFinestScale(0)  # otherwise pictures are halved, which leaves too little of small ones
    flow: Field = search.calc(to, back, None if start is None else start.copy())  # it is overwritten
    return flow


def followed(flows: Sequence[Field]) -> NDArray[np.float32]:
    """Returns the displacements of each pixel in consecutive steps, [n, h, w, 2], from the optical flow of each step.

    A pixel is followed: its second displacement is that of the place where the first one has brought it, and so on.
    """
    place, followed = pixel_places(*flows[0].shape[:2]), []
    for flow in flows:
        followed.append(cv2.remap(flow, place, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
        place = place + followed[-1]
    return np.stack(followed)


def pixel_places(height: int, width: int) -> NDArray[np.float32]:
    """Returns the place (x, y) of each pixel of a picture, [height, width, 2]."""
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)


def sampled(picture: Pictures, places: NDArray[np.float32]) -> Pictures:
    """Returns the pixels [h, w, 3] of a picture [H, W, 3] at `places` [h, w, 2], which are (x, y) in pixels.

    Colours at places between pixels are interpolated with cubic curves. Beyond its edges the picture is continued by
    its mirror image.
    """
    found: Pictures = cv2.remap(picture, places, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return found


def contrast(luma: Luma) -> NDArray[np.float32]:
    """Returns for each pixel a weight [h, w] that says how reliable optical flow is there.

    The weight is the length of the picture's gradient, in code values per pixel, plus LEAST_CONTRAST. So flat areas
    count a little, too.
    """
    across, down = cv2.Sobel(luma, cv2.CV_32F, 1, 0), cv2.Sobel(luma, cv2.CV_32F, 0, 1)
    contrast: NDArray[np.float32] = np.hypot(across, down) / 8 + LEAST_CONTRAST
    return contrast


def smoothed(flow: Field, weights: NDArray[np.float32]) -> Field:
    """Returns the mean of the flow around each pixel, weighted by a Gaussian and by `weights` [h, w]."""
    sigma = flow.shape[0] * SMOOTHING
    total = cv2.GaussianBlur(flow * weights[..., None], (0, 0), sigma)
    smooth: Field = total / cv2.GaussianBlur(weights, (0, 0), sigma)[..., None]
    return smooth


def stiffened(flow: Field, weights: NDArray[np.float32]) -> Field:
    """Returns the flow nearest to `flow` that moves, turns and scales the picture as a whole.

    That is the one with the least sum of squared differences, weighted by `weights` [h, w].
    """
    # As complex numbers x + iy, the flow is m z + c at the place z: m turns and scales the picture, c moves it.
    places, ways = ((field @ np.array([1, 1j])) for field in (pixel_places(*weights.shape), flow))
    z, w = places - np.average(places, weights=weights), np.average(ways, weights=weights)
    m = (weights * z.conj() * ways).sum() / (weights * np.abs(z) ** 2).sum()
    stiff = w + m * z
    return np.stack([stiff.real, stiff.imag], axis=-1).astype(np.float32)


def small_luma(picture: Pictures) -> Luma:
    """Returns the luma [h, w] in 0..255 (weights of BT.709) of a picture [H, W, 3] in 0..1.

    A picture of more than 240 rows (FLOW_HEIGHT) is scaled down to 240 rows; the width shrinks by the same factor.
    """
    luma: Luma = np.clip(picture @ LUMA * 255, 0, 255).astype(np.uint8)
    height, width = luma.shape
    if height <= FLOW_HEIGHT:
        return luma
    size = (round(width * FLOW_HEIGHT / height), FLOW_HEIGHT)
    small: Luma = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
    return small


def length(field: Field) -> NDArray[np.float32]:
    """Returns the lengths [..., h, w] of displacements [..., h, w, 2]."""
    lengths: NDArray[np.float32] = np.hypot(field[..., 0], field[..., 1])
    return lengths
