"""Tone mapping: converts high dynamic range, and colours with other primaries, to BT.709 for ordinary screens.

1. Codes are converted to light in cd/m2 (nits): PQ by SMPTE ST 2084, HLG by BT.2100 for a display of 1000 nits (system
   gamma 1.2).
2. Highlights up to 1000 nits are compressed to 203 nits, which is graphics white in BT.2408. The curve is that of
   BT.2390-11, 5.4.1. It is applied to the largest of R, G and B, so that hues do not change.
3. Colours are converted to BT.709 primaries. If the white point differs, it is adapted (Bradford).
4. Light is converted to codes with the display gamma 2.4 (BT.1886).
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Transfer = Literal["sdr", "pq", "hlg"]
"""Transfer function: standard dynamic range (sdr), or an HDR curve: pq (SMPTE ST 2084) or hlg (ARIB STD-B67)."""

PEAK_NITS = 1000.0
"""Light in nits from which on everything is shown as white."""

WHITE_NITS = 203.0
"""Light in nits of the screen's white: graphics white in BT.2408."""

DISPLAY_GAMMA = 2.4

_HLG_GAMMA = 1.2
_BT2020_LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
"""Bradford's matrix, which converts CIE XYZ to cone responses. Scaling these adapts a colour to another white point."""

Chromaticity = tuple[float, float]
"""Coordinates (x, y) of a colour in the CIE 1931 diagram."""

_D65: Chromaticity = (0.3127, 0.3290)
_ILLUMINANT_C: Chromaticity = (0.310, 0.316)


@dataclass(frozen=True)
class Primaries:
    """The chromaticities (x, y) of a video's red, green, blue and white."""

    red: Chromaticity
    green: Chromaticity
    blue: Chromaticity
    white: Chromaticity = _D65


BT709 = Primaries((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))

_SMPTE_C = Primaries((0.630, 0.340), (0.310, 0.595), (0.155, 0.070))

PRIMARIES = {
    1: BT709,
    4: Primaries((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), _ILLUMINANT_C),
    5: Primaries((0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    6: _SMPTE_C,
    7: _SMPTE_C,
    8: Primaries((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), _ILLUMINANT_C),
    9: Primaries((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: Primaries((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: Primaries((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    22: Primaries((0.630, 0.340), (0.295, 0.605), (0.155, 0.077)),
}
"""Code point of colour primaries in ITU-T H.273 -> the primaries: 5 and 6 are BT.601's, 9 is BT.2020, 12 Display P3."""

_STRIP_ROWS = 16
"""Number of rows that are converted at once; it limits the memory."""

_PQ_NITS = 10_000.0
"""Light in nits of the largest PQ code."""

Light = NDArray[np.float64]
"""An array of any shape. Its elements are codes, or amounts of light in the unit that the function states."""


def to_sdr(picture: NDArray[np.uint16], transfer: Transfer, primaries: Primaries) -> NDArray[np.uint16]:
    """Tone-maps an HDR picture to standard dynamic range, and converts its colours to BT.709 primaries.

    `picture`: RGB codes [H, W, 3] in 0..65535. The result has the same shape and range.
    `transfer`: the transfer function of the codes. If it is "sdr", the picture is not HDR, and only its primaries are
        converted.
    `primaries`: the primaries of the codes.
    """
    out = np.empty(picture.shape, np.uint16)
    to_bt709 = conversion_to_bt709(primaries).astype(np.float32).T
    for top in range(0, len(picture), _STRIP_ROWS):
        strip = picture[top : top + _STRIP_ROWS]
        light = _screen_light(strip.reshape(-1, 3), transfer) @ to_bt709
        out[top : top + _STRIP_ROWS] = _display_codes()[_steps(light)].reshape(strip.shape)
    return out


@cache
def conversion_to_bt709(primaries: Primaries) -> NDArray[np.float64]:
    """Returns the matrix [3, 3] that converts linear RGB light with `primaries` to linear BT.709 light."""
    whites = [_BRADFORD @ _xyz(one.white) for one in (primaries, BT709)]
    adapted = np.linalg.solve(_BRADFORD, np.diag(whites[1] / whites[0]) @ _BRADFORD)
    return np.asarray(np.linalg.solve(_to_xyz(BT709), adapted @ _to_xyz(primaries)), np.float64)


def _to_xyz(primaries: Primaries) -> NDArray[np.float64]:
    """Returns the matrix [3, 3] that converts linear RGB light to CIE XYZ. White (1, 1, 1) has the luminance Y = 1."""
    columns = np.stack([_xyz(one) for one in (primaries.red, primaries.green, primaries.blue)], axis=1)
    return np.asarray(columns * np.linalg.solve(columns, _xyz(primaries.white)))


def _xyz(colour: Chromaticity) -> NDArray[np.float64]:
    """Returns the CIE XYZ [3] of a colour with the luminance Y = 1."""
    x, y = colour
    return np.array([x / y, 1, (1 - x - y) / y])


def _screen_light(pixels: NDArray[np.uint16], transfer: Transfer) -> NDArray[np.float32]:
    """Converts RGB codes [n, 3] of n pixels, with the transfer function `transfer`, to linear light [n, 3].

    In the result 1 is the screen's white. Highlights are compressed, except for sdr. The primaries stay the same.
    """
    light = _linear(transfer)[pixels]
    if transfer == "sdr":
        return light
    if transfer == "hlg":
        light *= (PEAK_NITS * np.power(light @ _BT2020_LUMA, _HLG_GAMMA - 1))[:, None]
    brightest = np.maximum(np.maximum(light[:, 0], light[:, 1]), light[:, 2])
    light *= _roll_off()[_steps(brightest / np.float32(_PQ_NITS))][:, None]
    return light


def _steps(light: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
    """Returns for each amount of light (0..1) its index (0..65535) in the tables `_display_codes` and `_roll_off`.

    The index is proportional to the square root of the light, so that dark parts have fine steps.
    """
    steps: NDArray[np.uint16] = (np.sqrt(np.clip(light, 0, 1)) * 65535 + 0.5).astype(np.uint16)
    return steps


@cache
def _display_codes() -> NDArray[np.uint16]:
    """Returns a table [65536] that gives the display code (0..65535, white is 65535) for each amount of light. The
    index is 65535 times the square root of the light in 0..1, as `_steps` computes it."""
    light = np.linspace(0, 1, 1 << 16) ** 2
    return (light ** (1 / DISPLAY_GAMMA) * 65535 + 0.5).astype(np.uint16)


@cache
def _roll_off() -> NDArray[np.float32]:
    """Returns a table [65536] of factors that convert nits to linear screen light (1 is white) and compress highlights.

    All three values of a pixel are multiplied by one factor. Its index is 65535 times the square root of m / 10,000, as
    `_steps` computes it, where m is the largest of the pixel's R, G and B in nits.
    """
    nits = _PQ_NITS * np.linspace(0, 1, 1 << 16) ** 2
    gain = np.divide(rolled_off(nits), nits, out=np.ones_like(nits), where=nits > 0)
    return (gain / WHITE_NITS).astype(np.float32)


@cache
def _linear(transfer: Transfer) -> NDArray[np.float32]:
    """Returns a table [65536] of the light that each 16-bit code means in the transfer function `transfer`.

    It is light in nits for pq, scene light (0..1) for hlg, and screen light (0..1) for sdr.
    """
    code = np.linspace(0, 1, 1 << 16)
    if transfer == "pq":
        return pq_to_nits(code).astype(np.float32)
    if transfer == "hlg":
        return hlg_to_scene(code).astype(np.float32)
    return np.power(code, DISPLAY_GAMMA).astype(np.float32)


def rolled_off(nits: Light) -> Light:
    """Returns light in nits with compressed highlights (the EETF of BT.2390-11, 5.4.1).

    Light up to about 88 nits is unchanged. Above that, the result rises more slowly, along a Hermite spline of PQ
    codes. It reaches 203 nits (WHITE_NITS) for an input of 1000 nits (PEAK_NITS) and stays there for brighter light.
    """
    peak = nits_to_pq(np.array(PEAK_NITS))
    code = np.minimum(nits_to_pq(nits) / peak, 1)
    most = float(nits_to_pq(np.array(WHITE_NITS)) / peak)
    knee = 1.5 * most - 0.5
    t = (code - knee) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    return pq_to_nits(np.where(code < knee, code, spline) * peak)


def pq_to_nits(code: Light) -> Light:
    """Returns light in nits (0..10000) for PQ codes in 0..1 (SMPTE ST 2084, equation 4.1)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    root = np.power(code, 1 / m2)
    return np.asarray(_PQ_NITS * np.power(np.maximum(root - c1, 0) / (c2 - c3 * root), 1 / m1))


def nits_to_pq(nits: Light) -> Light:
    """Returns PQ codes in 0..1 for light in nits (0..10000) (SMPTE ST 2084, equation 5.2)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    power = np.power(nits / _PQ_NITS, m1)
    return np.asarray(np.power((c1 + c2 * power) / (1 + c3 * power), m2))


def hlg_to_scene(code: Light) -> Light:
    """Returns scene light in 0..1 for HLG codes in 0..1 (BT.2100, table 5, inverse OETF)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
