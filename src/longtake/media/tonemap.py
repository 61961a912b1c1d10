"""High dynamic range and wide gamut to what an ordinary screen shows: BT.709 primaries, 8 bits, gamma 2.4.

Light is absolute, in cd/m2 ("nits"): PQ says it (SMPTE ST 2084), HLG for a display of 1000 nits (BT.2100, system gamma
1.2). Highlights are rolled off by the curve of BT.2390-11, 5.4.1 from 1000 nits to the 203 nits of graphics white
(BT.2408), on the largest of R, G, B so that hues stay; then BT.2020 becomes BT.709 (BT.2087) and BT.1886's display
gamma gives the code.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longtake.video import Transfer

PEAK_NITS = 1000.0
WHITE_NITS = 203.0
DISPLAY_GAMMA = 2.4

_HLG_GAMMA = 1.2
_BT2020_LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)
_BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
_STRIP_ROWS = 16
_MOST_NITS = 10_000.0

Light = NDArray[np.float64]


def to_sdr(picture: NDArray[np.uint16], transfer: Transfer) -> NDArray[np.uint8]:
    """RGB codes [H, W, 3] of 16 bits with BT.2020 primaries as BT.709 RGB of 8 bits."""
    out = np.empty(picture.shape, np.uint8)
    for top in range(0, len(picture), _STRIP_ROWS):
        strip = picture[top : top + _STRIP_ROWS]
        light = _shown(strip.reshape(-1, 3), transfer) @ _BT2020_TO_BT709.T
        out[top : top + _STRIP_ROWS] = _display_codes()[_steps(light)].reshape(strip.shape)
    return out


def _shown(pixels: NDArray[np.uint16], transfer: Transfer) -> NDArray[np.float32]:
    """Linear BT.2020 light [pixels, 3] with 1 for the screen's white, highlights rolled off."""
    light = _linear(transfer)[pixels]
    if transfer == "sdr":
        return light
    if transfer == "hlg":
        light *= (PEAK_NITS * np.power(light @ _BT2020_LUMA, _HLG_GAMMA - 1))[:, None]
    brightest = np.maximum(np.maximum(light[:, 0], light[:, 1]), light[:, 2])
    light *= _roll_off()[_steps(brightest / np.float32(_MOST_NITS))][:, None]
    return light


def _steps(light: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
    """Light 0..1 in 65536 steps, even in its square root: the index of the tables, fine where it is dark."""
    steps: NDArray[np.uint16] = (np.sqrt(np.clip(light, 0, 1)) * 65535 + 0.5).astype(np.uint16)
    return steps


@cache
def _display_codes() -> NDArray[np.uint8]:
    """The 8-bit code that shows each step of light."""
    light = np.linspace(0, 1, 1 << 16) ** 2
    return (light ** (1 / DISPLAY_GAMMA) * 255 + 0.5).astype(np.uint8)


@cache
def _roll_off() -> NDArray[np.float32]:
    """What turns nits into screen light, for each step of the brightest channel's share of 10000 nits."""
    nits = _MOST_NITS * np.linspace(0, 1, 1 << 16) ** 2
    gain = np.divide(rolled_off(nits), nits, out=np.ones_like(nits), where=nits > 0)
    return (gain / WHITE_NITS).astype(np.float32)


@cache
def _linear(transfer: Transfer) -> NDArray[np.float32]:
    """Light of each 16-bit code: nits for PQ, scene light 0..1 for HLG, screen light 0..1 for SDR."""
    code = np.linspace(0, 1, 1 << 16)
    if transfer == "pq":
        return pq_to_nits(code).astype(np.float32)
    if transfer == "hlg":
        return hlg_to_scene(code).astype(np.float32)
    return np.power(code, DISPLAY_GAMMA).astype(np.float32)


def rolled_off(nits: Light) -> Light:
    """BT.2390's EETF: unchanged up to a knee (about 88 nits), then a Hermite spline to WHITE_NITS at PEAK_NITS."""
    peak = nits_to_pq(np.array(PEAK_NITS))
    code = np.minimum(nits_to_pq(nits) / peak, 1)
    most = float(nits_to_pq(np.array(WHITE_NITS)) / peak)
    knee = 1.5 * most - 0.5
    t = (code - knee) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    return pq_to_nits(np.where(code < knee, code, spline) * peak)


def pq_to_nits(code: Light) -> Light:
    """SMPTE ST 2084, equation 4.1: code 0..1 to 0..10000 nits."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    root = np.power(code, 1 / m2)
    return np.asarray(_MOST_NITS * np.power(np.maximum(root - c1, 0) / (c2 - c3 * root), 1 / m1))


def nits_to_pq(nits: Light) -> Light:
    """SMPTE ST 2084, equation 5.2: 0..10000 nits to a code 0..1."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    power = np.power(nits / _MOST_NITS, m1)
    return np.asarray(np.power((c1 + c2 * power) / (1 + c3 * power), m2))


def hlg_to_scene(code: Light) -> Light:
    """BT.2100 table 5, the inverse OETF: code 0..1 to scene light 0..1."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
