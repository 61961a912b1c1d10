"""Tone mapping: converts high dynamic range and BT.2020 colours to 8-bit BT.709 for ordinary screens.

1. Codes are converted to light in cd/m2 (nits): PQ by SMPTE ST 2084, HLG by BT.2100 for a display of 1000 nits (system
   gamma 1.2).
2. Highlights up to 1000 nits are compressed to 203 nits, which is graphics white in BT.2408. The curve is that of
   BT.2390-11, 5.4.1. It is applied to the largest of R, G and B, so that hues do not change.
3. Colours are converted from BT.2020 primaries to BT.709 primaries (BT.2087).
4. Light is converted to 8-bit codes with the display gamma 2.4 (BT.1886).
"""

from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Transfer = Literal["sdr", "pq", "hlg"]
"""Transfer function: standard dynamic range (sdr), or an HDR curve: pq (SMPTE ST 2084) or hlg (ARIB STD-B67)."""

PEAK_NITS = 1000.0
"""Lowest light in nits that is shown as white."""

WHITE_NITS = 203.0
"""Light in nits of the screen's white: graphics white in BT.2408."""

DISPLAY_GAMMA = 2.4

_HLG_GAMMA = 1.2
_BT2020_LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)
_BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
_STRIP_ROWS = 16
"""Number of rows that are converted at once; it limits the memory."""

_PQ_NITS = 10_000.0
"""Light in nits of the largest PQ code."""

Light = NDArray[np.float64]
"""An array of any shape, with codes or with amounts of light."""


def to_sdr(picture: NDArray[np.uint16], transfer: Transfer) -> NDArray[np.uint8]:
    """Returns 8-bit BT.709 RGB [H, W, 3] for 16-bit RGB codes [H, W, 3] with BT.2020 primaries.

    `transfer` is the curve of the codes; sdr is for BT.2020 video that is not HDR.
    """
    out = np.empty(picture.shape, np.uint8)
    for top in range(0, len(picture), _STRIP_ROWS):
        strip = picture[top : top + _STRIP_ROWS]
        light = _screen_light(strip.reshape(-1, 3), transfer) @ _BT2020_TO_BT709.T
        out[top : top + _STRIP_ROWS] = _display_codes()[_steps(light)].reshape(strip.shape)
    return out


def _screen_light(pixels: NDArray[np.uint16], transfer: Transfer) -> NDArray[np.float32]:
    """Returns linear BT.2020 light [n, 3] with compressed highlights, for n pixels. 1 is the screen's white."""
    light = _linear(transfer)[pixels]
    if transfer == "sdr":
        return light
    if transfer == "hlg":
        light *= (PEAK_NITS * np.power(light @ _BT2020_LUMA, _HLG_GAMMA - 1))[:, None]
    brightest = np.maximum(np.maximum(light[:, 0], light[:, 1]), light[:, 2])
    light *= _roll_off()[_steps(brightest / np.float32(_PQ_NITS))][:, None]
    return light


def _steps(light: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
    """Returns the index (0..65535) in the tables `_display_codes` and `_roll_off` for each amount of light in 0..1.

    The index is proportional to the square root of the light, so that dark parts have fine steps.
    """
    steps: NDArray[np.uint16] = (np.sqrt(np.clip(light, 0, 1)) * 65535 + 0.5).astype(np.uint16)
    return steps


@cache
def _display_codes() -> NDArray[np.uint8]:
    """Returns a table [65536] of the 8-bit display codes for the indices that `_steps` returns."""
    light = np.linspace(0, 1, 1 << 16) ** 2
    return (light ** (1 / DISPLAY_GAMMA) * 255 + 0.5).astype(np.uint8)


@cache
def _roll_off() -> NDArray[np.float32]:
    """Returns a table [65536] of the factors that convert nits to screen light (1 is white) with compressed highlights.

    The index of a pixel's factor is `_steps` of the pixel's brightest channel, as a share of 10,000 nits.
    """
    nits = _PQ_NITS * np.linspace(0, 1, 1 << 16) ** 2
    gain = np.divide(rolled_off(nits), nits, out=np.ones_like(nits), where=nits > 0)
    return (gain / WHITE_NITS).astype(np.float32)


@cache
def _linear(transfer: Transfer) -> NDArray[np.float32]:
    """Returns a table [65536] of the light for each 16-bit code.

    The light is in nits for PQ, scene light (0..1) for HLG, and screen light (0..1) for SDR.
    """
    code = np.linspace(0, 1, 1 << 16)
    if transfer == "pq":
        return pq_to_nits(code).astype(np.float32)
    if transfer == "hlg":
        return hlg_to_scene(code).astype(np.float32)
    return np.power(code, DISPLAY_GAMMA).astype(np.float32)


def rolled_off(nits: Light) -> Light:
    """Returns light in nits with compressed highlights (the EETF of BT.2390-11, 5.4.1).

    Light up to about 88 nits is unchanged. Above that, a Hermite spline in PQ codes ends at WHITE_NITS for PEAK_NITS
    and more.
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
