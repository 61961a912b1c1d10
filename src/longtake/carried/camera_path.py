"""Fits the path of a camera to a source: one velocity and one change of scale, in one of several laws of motion.

The frame that is k frames before the nearest one shows the content of its pixel p at

    E(p, k) = c + r(k) (p - c) + v g(k),

where c is the frame's centre, v the velocity in pixels per frame and z the change of the scale per frame. The laws
differ in how the scale r and the way g depend on z and k. Programs that let a picture move use different ones.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from longtake.carried.optical_flow import Field, Pictures, contrast, pixel_places, rough_flow, sampled, small_luma

SEARCH = (2.0, 1.0, 0.5, 0.25, 0.1)
"""The search changes how far the frame's edge moves between two frames by these lengths, in pixels, one after the
other."""

MOST_CHANGES = 30
"""The search makes at most so many changes of each length."""

REFINEMENTS = 3
"""The number of Gauss-Newton steps for each number of frames that are compared."""

DAMPING = 1e-3
"""A step of the search is damped in directions in which the picture shows less than about this share of what it shows
in others."""

UNSEEN = 1e-2
"""A motion along which the picture shows less than this share of what it shows of others is taken for none: that of
stripes along themselves cannot be seen."""

ROBUST = 0.06
"""Where two frames differ by more than about this (0..1) although the motion is undone, something else moves. Such
pixels count less."""

SHARPER = (0.06, 0.03, 0.015)
"""The same, one after the other, while it is found out which pixels do not move with the rest."""

ROUGH = 0.25
"""The same while the motion is not known yet."""

FOLLOWING = (0.3, 0.98)
"""If less than the first share of the pixels in question follows a path, it is not that of a camera. If more than the
second share does, nothing else moves."""

NOISE = 1e-5
"""Squared differences of colours (0..1) that are smaller than this are noise."""

OTHER_LAW = 0.9
"""A law other than the first one is used if it leaves at most this share of the first one's error."""

LEAST_SHOWN = 0.3
"""Frames are compared if the earlier one shows at least this share of the pixels in question of the nearest one."""

LEAST_SCALE = 0.25
"""A picture does not become smaller than this share of its size at the joint."""

COMPARED = 6000
"""The motion is searched at this many pixels at most."""


@dataclass(frozen=True)
class Law:
    """A law of motion.

    scale: returns r from z and k.
    way: returns g from r and k.
    rate: returns z from r and k.
    """

    scale: Callable[[float, float], float]
    way: Callable[[float, float], float]
    rate: Callable[[float, float], float]


LAWS: Mapping[str, Law] = {
    # In each frame the scale changes by the same factor.
    "even zoom": Law(lambda z, k: float(np.exp(z * k)), lambda r, k: k, lambda r, k: float(np.log(r)) / k),
    # In each frame the scale changes by the same amount, and each pixel moves by the same way.
    "even scale": Law(lambda z, k: 1 + z * k, lambda r, k: k, lambda r, k: (r - 1) / k),
    # The same, but it is the centre of the section of a still picture that moves by the same way.
    "even scale and centre": Law(lambda z, k: 1 + z * k, lambda r, k: r * k, lambda r, k: (r - 1) / k),
    # In each frame the edges of the section that is shown of a still picture move by the same way.
    "even section": Law(lambda z, k: 1 / max(1 - z * k, 0.1), lambda r, k: r * k, lambda r, k: (1 - 1 / r) / k),
}
"""The laws of motion by name. Without a zoom they are all the same."""


@dataclass(frozen=True)
class CameraPath:
    """How a whole picture moves.

    motion: (v_x, v_y, z), in pixels and frames.
    law: the name of the law of motion.
    """

    motion: NDArray[np.float64]
    law: str = "even zoom"

    def at(self, frames: float) -> tuple[float, NDArray[np.float64]]:
        """Returns r(k) and v g(k) for a frame that is k = `frames` frames before the nearest one, or after it if
        negative."""
        law = LAWS[self.law]
        scale = max(law.scale(self.motion[2], frames), LEAST_SCALE)
        return scale, self.motion[:2] * law.way(scale, frames)

    def earlier(self, places: NDArray[np.float32], size: tuple[int, ...], frames: float) -> NDArray[np.float32]:
        """Returns where the frame that is `frames` frames before the nearest one shows what this one shows at `places`
        [..., 2], which are (x, y) in pixels. `size` is (H, W)."""
        scale, way = self.at(frames)
        centre = _centre(size)
        moved: NDArray[np.float32] = (centre + scale * (places - centre) + way).astype(np.float32)
        return moved

    def later(self, places: NDArray[np.float32], size: tuple[int, ...], frames: float) -> NDArray[np.float32]:
        """Returns where the nearest frame shows what the frame that is `frames` frames after it shows at `places`."""
        scale, way = self.at(-frames)
        centre = _centre(size)
        moved: NDArray[np.float32] = (centre + (places - centre - way) / scale).astype(np.float32)
        return moved

    def scaled(self, across: float, down: float) -> "CameraPath":
        """Returns the same path in a picture that is so many times as wide and as high."""
        return replace(self, motion=self.motion * np.array([across, down, 1]))

    def edge_step(self, size: tuple[int, ...]) -> float:
        """Returns how far it moves the edge of a frame of `size` (H, W) in one step, in pixels."""
        return float(np.abs(self.motion[:2]).max() + abs(self.motion[2]) * max(size) / 2)


@dataclass(frozen=True)
class _Comparison:
    """Pixels of the nearest frame that are compared with earlier frames.

    places: (x, y) of each, [n, 2]. colours: [n, 3] in 0..1. size: (H, W) of the frame.
    frames: number of an earlier frame -> the frame.
    slopes: number of an earlier frame -> how its colours change to the right and downwards, [H, W, 6].
    """

    places: NDArray[np.float32]
    colours: NDArray[np.float32]
    size: tuple[int, ...]
    frames: Mapping[int, Pictures]
    slopes: Mapping[int, NDArray[np.float32]]

    @classmethod
    def of(cls, frames: Mapping[int, Pictures], counts: NDArray[np.bool_]) -> "_Comparison":
        """Returns the comparison of the pixels that count, [H, W], or of some of them, which are spread evenly.

        frames: number of a frame (0 for the nearest one) -> the frame.
        """
        places = np.argwhere(counts)
        few = places[np.linspace(0, len(places) - 1, min(COMPARED, len(places))).astype(int)]
        earlier = {lag: frame for lag, frame in frames.items() if lag}
        slopes = {
            lag: np.concatenate([cv2.Sobel(frame, cv2.CV_32F, *way) / 8 for way in ((1, 0), (0, 1))], 2)
            for lag, frame in earlier.items()
        }
        size = frames[0].shape[:2]
        return cls(few[:, ::-1].astype(np.float32), frames[0][tuple(few.T)], size, earlier, slopes)

    def seen(self, picture: NDArray[np.float32], path: CameraPath, lag: int) -> NDArray[np.float32]:
        """Returns the values of a picture at the places of the pixels in an earlier frame, [n, c]."""
        there = path.earlier(self.places, self.size, lag)[:, None]
        found = cv2.remap(picture, there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        values: NDArray[np.float32] = found.reshape(len(self.places), -1)
        return values

    def shown(self, path: CameraPath, lag: int) -> NDArray[np.bool_]:
        """Returns True for each pixel that an earlier frame shows, [n]."""
        return inside(path.earlier(self.places, self.size, lag), self.size)

    def that_follow(self, path: CameraPath, lags: Sequence[int]) -> "_Comparison":
        """Returns the comparison of those pixels that a path brings onto their colours in earlier frames. It has all
        pixels if nearly all of them do, or too few."""
        follow = np.ones(len(self.places), np.bool_)
        for lag in lags:
            left = np.square(self.colours - self.seen(self.frames[lag], path, lag)).mean(axis=-1)
            follow &= (left < ROBUST**2) | ~self.shown(path, lag)
        if not FOLLOWING[0] <= follow.mean() <= FOLLOWING[1]:
            return self
        return replace(self, places=self.places[follow], colours=self.colours[follow])

    def error(self, path: CameraPath, lags: Sequence[int], robust: float = ROBUST) -> float:
        """Returns the mean squared difference to an earlier frame, added up over frames. Differences greater than
        `robust` count less (Geman and McClure). It is 1 for a frame that shows too few of the pixels."""
        errors = 0.0
        for lag in lags:
            shown = self.shown(path, lag)
            if shown.mean() < LEAST_SHOWN:
                errors += 1.0
                continue
            squared = np.square(self.colours - self.seen(self.frames[lag], path, lag)).mean(axis=-1)[shown]
            errors += float((squared / (1 + squared / np.float32(robust**2))).mean())
        return errors

    @property
    def units(self) -> NDArray[np.float64]:
        """The changes of a motion (v_x, v_y, z) that each move the frame's edge by one pixel per step."""
        return np.array([1.0, 1.0, 2 / max(self.size)])

    def equations(
        self, path: CameraPath, lags: Sequence[int], robust: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns the matrix and the right side of the equations of a Gauss-Newton step of a motion, in `units`."""
        matrix, vector = np.eye(3) * 1e-9, np.zeros(3)
        for lag in lags:
            left = self.colours - self.seen(self.frames[lag], path, lag)
            weight = self.shown(path, lag) / np.square(1 + np.square(left).mean(-1) / np.float32(robust**2))
            across, down = np.split(self.seen(self.slopes[lag], path, lag), 2, axis=1)
            here = path.earlier(self.places, self.size, lag)
            for_each = []
            for unit in np.diag(self.units):
                moved = replace(path, motion=path.motion + unit / lag).earlier(self.places, self.size, lag) - here
                for_each.append((across * moved[:, :1] + down * moved[:, 1:]) * lag)
            changes = np.stack(for_each, -1)
            matrix += np.einsum("n,nci,ncj->ij", weight, changes, changes, optimize=True)
            vector += np.einsum("n,nci,nc->i", weight, changes, left, optimize=True)
        return matrix, vector


def inside(places: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.bool_]:
    """Returns True for places (x, y) within a frame of `size` (H, W)."""
    x, y = places[..., 0], places[..., 1]
    within: NDArray[np.bool_] = (x >= 0) & (y >= 0) & (x <= size[1] - 1) & (y <= size[0] - 1)
    return within


def fitted(frames: Mapping[int, Pictures], counts: NDArray[np.bool_]) -> CameraPath:
    """Returns the path with which the earlier frames look most like the nearest one.

    frames: number of a frame (0 for the nearest one) -> the frame, of at most 240 rows.
    counts: True for the pixels of the nearest frame that count, [H, W]. At least one does.
    """
    lags = sorted(frames)[1:]
    near, points = lags[:3], _Comparison.of(frames, counts)
    flow = rough_flow(small_luma(frames[0]), small_luma(frames[lags[0]])) / np.float32(lags[0])
    starts = [_mean_motion(flow, contrast(small_luma(frames[0])) * counts), np.zeros(3)]
    for lag in near:
        starts = [_nearer(points, start, lag) for start in starts]
    starts.append(np.array([*np.median(flow[counts], axis=0), 0]))  # an object of much contrast does not change it
    paths = [_refined(points, _without_unseen(points, CameraPath(start), near), near, ROBUST) for start in starts]
    path = min(paths, key=lambda each: points.error(each, near))
    for robust in SHARPER:
        path = _refined(points, path, near, robust)
    points = points.that_follow(path, near)
    for count in range(len(near), len(lags) + 1):
        path = _refined(points, path, lags[:count], ROBUST)
    others = [_refined(points, _in_law(path, law, near[-1]), lags, ROBUST) for law in list(LAWS)[1:]]
    best = min(others, key=lambda each: points.error(each, lags))
    noise = NOISE * len(lags)
    is_better = points.error(best, lags) + noise < OTHER_LAW * (points.error(path, lags) + noise)
    return best if is_better else path


def rest(nearest: Pictures, earlier: Pictures, path: CameraPath, lag: float) -> tuple[Pictures, NDArray[np.bool_]]:
    """Returns the nearest frame minus an earlier one that is moved onto it, [H, W, 3], and True for the pixels that the
    earlier one shows, [H, W]."""
    size = nearest.shape[:2]
    places = path.earlier(pixel_places(*size), size, lag)
    left: Pictures = nearest - sampled(earlier, places)
    return left, inside(places, size)


def _centre(size: tuple[int, ...]) -> NDArray[np.float64]:
    return np.array([size[1] - 1, size[0] - 1]) / 2


def _in_law(path: CameraPath, name: str, lag: int) -> CameraPath:
    """Returns the path of another law that shows the same in the frame `lag` frames before the nearest one."""
    scale, way = path.at(lag)
    law = LAWS[name]
    return CameraPath(np.array([*(way / law.way(scale, lag)), law.rate(scale, lag)]), name)


def _mean_motion(flow: Field, weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the mean motion (v_x, v_y, z) of an optical flow, weighted by `weights`, [H, W]."""
    outwards = pixel_places(*weights.shape) - _centre(weights.shape)
    velocity = np.average(flow, axis=(0, 1), weights=weights)
    away = ((flow - velocity) * outwards).sum(axis=-1)
    zoom = np.average(away, weights=weights) / max(np.average((outwards**2).sum(axis=-1), weights=weights), 1e-9)
    return np.array([*velocity, zoom])


def _nearer(points: _Comparison, motion: NDArray[np.float64], lag: int) -> NDArray[np.float64]:
    """Returns the motion with the least difference to an earlier frame that is found by small changes of a motion."""
    best, least = motion, points.error(CameraPath(motion), [lag], ROUGH)
    for reach in SEARCH:
        for _ in range(MOST_CHANGES):
            around = [best + sign * reach / lag * unit for unit in np.diag(points.units) for sign in (-1, 1)]
            errors = [points.error(CameraPath(each), [lag], ROUGH) for each in around]
            if not min(errors) < least:
                break
            best, least = around[int(np.argmin(errors))], min(errors)
    return best


def _without_unseen(points: _Comparison, path: CameraPath, lags: Sequence[int]) -> CameraPath:
    """Returns a path without motion that the picture does not show (UNSEEN)."""
    matrix, _ = points.equations(path, lags, ROBUST)
    (least, most), ways = np.linalg.eigh(matrix[:2, :2])
    if least >= UNSEEN * most:
        return path
    unseen = ways[:, 0] * (ways[:, 0] @ path.motion[:2])
    return replace(path, motion=path.motion - [*unseen, 0])


def _refined(points: _Comparison, path: CameraPath, lags: Sequence[int], robust: float) -> CameraPath:
    """Returns the path with the least difference to earlier frames that is found by Gauss-Newton steps from a path.
    Differences greater than `robust` count less."""
    for _ in range(REFINEMENTS):
        matrix, vector = points.equations(path, lags, robust)
        damping = DAMPING * matrix[:2, :2].trace() * np.eye(3)
        path = replace(path, motion=path.motion + points.units * np.linalg.solve(matrix + damping, vector))
    return path
