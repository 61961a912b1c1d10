"""Tone mapping: the published curves at published points, and the resulting colours."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.media.planes import eight_bit
from longtake.media.tonemap import (
    BT709,
    PEAK_NITS,
    PRIMARIES,
    WHITE_NITS,
    Transfer,
    conversion_to_bt709,
    hlg_to_scene,
    nits_to_pq,
    pq_to_nits,
    rolled_off,
    to_sdr,
)

BT2020 = PRIMARIES[9]


def shown(code: tuple[float, float, float], transfer: Transfer) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    picture = np.array([[code]], np.float64) * 65535 + 0.5
    colour: np.ndarray[tuple[int], np.dtype[np.uint8]] = eight_bit(to_sdr(picture.astype(np.uint16), transfer, BT2020))[
        0, 0
    ]
    return colour


@pytest.mark.parametrize(
    ("code", "nits"), [(0.0, 0.0), (0.5081, 100.0), (0.5806, 203.0), (0.7518, 1000.0), (1.0, 10_000.0)]
)
def test_pq_points_of_bt2408(code: float, nits: float) -> None:
    assert pq_to_nits(np.array(code)) == pytest.approx(nits, rel=2e-3, abs=1e-6)


@given(st.floats(0, 1))
def test_pq_codes_survive_a_round_trip(code: float) -> None:
    assert nits_to_pq(pq_to_nits(np.array(code))) == pytest.approx(code, abs=1e-6)


@pytest.mark.parametrize(("code", "scene"), [(0.0, 0.0), (0.5, 1 / 12), (0.75, 0.26496), (1.0, 1.0)])
def test_hlg_points_of_bt2100(code: float, scene: float) -> None:
    assert hlg_to_scene(np.array(code)) == pytest.approx(scene, abs=1e-4)


def test_highlights_are_compressed_smoothly_to_white() -> None:
    nits = np.linspace(0, PEAK_NITS, 2000)
    curve = rolled_off(nits)
    assert np.allclose(curve[nits < 85], nits[nits < 85], rtol=1e-6)
    assert curve[-1] == pytest.approx(WHITE_NITS, rel=1e-4)
    assert (np.diff(curve) > 0).all()
    assert np.abs(np.diff(curve, 2)).max() < 0.05
    assert rolled_off(np.array(4000.0)) == pytest.approx(WHITE_NITS, rel=1e-4)


@pytest.mark.parametrize(
    ("code", "transfer", "expected"),
    [
        ((0.0, 0.0, 0.0), "pq", (0, 0, 0)),
        ((0.7518, 0.7518, 0.7518), "pq", (255, 255, 255)),
        ((1.0, 1.0, 1.0), "pq", (255, 255, 255)),
        ((1.0, 1.0, 1.0), "hlg", (255, 255, 255)),
        ((0.0, 0.0, 0.0), "hlg", (0, 0, 0)),
        ((1.0, 1.0, 1.0), "sdr", (255, 255, 255)),
        ((0.5, 0.5, 0.5), "sdr", (128, 128, 128)),
    ],
)
def test_greys(code: tuple[float, float, float], transfer: Transfer, expected: tuple[int, int, int]) -> None:
    assert np.abs(shown(code, transfer).astype(int) - expected).max() <= 1


def test_dim_greys_keep_their_light() -> None:
    code = float(nits_to_pq(np.array(50.0)))
    assert shown((code, code, code), "pq")[0] == pytest.approx(255 * (50 / WHITE_NITS) ** (1 / 2.4), abs=1)


@pytest.mark.parametrize("transfer", ["pq", "hlg", "sdr"])
def test_hues_keep_their_order_and_bt709_red_is_red(transfer: Transfer) -> None:
    red, green, blue = (int(value) for value in shown((0.55, 0.4, 0.3), transfer))
    assert red > green > blue
    # BT.709 red in BT.2020 light is (0.6274, 0.0691, 0.0164): the other channels go out.
    light = np.array([0.6274, 0.0691, 0.0164])
    if transfer == "sdr":
        code = tuple(light ** (1 / 2.4))
        red, green, blue = (int(value) for value in shown((code[0], code[1], code[2]), transfer))
        assert red >= 253
        assert max(green, blue) <= 12


def test_the_matrix_of_bt2087() -> None:
    published = [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
    np.testing.assert_allclose(conversion_to_bt709(BT2020), published, atol=1e-4)


@pytest.mark.parametrize("code_point", sorted(PRIMARIES))
def test_white_stays_white(code_point: int) -> None:
    np.testing.assert_allclose(conversion_to_bt709(PRIMARIES[code_point]).sum(axis=1), 1, atol=1e-6)
    same = np.allclose(conversion_to_bt709(PRIMARIES[code_point]), np.eye(3), atol=1e-6)
    assert same == (PRIMARIES[code_point] == BT709)


def test_skin_in_display_p3() -> None:
    picture = np.array([[[224, 172, 105]]], np.uint16) * 257
    colour = eight_bit(to_sdr(picture, "sdr", PRIMARIES[12]))[0, 0]
    np.testing.assert_allclose(colour, (234, 169, 92), atol=1)


def test_strips_equal_the_whole() -> None:
    rows = 130
    ramp = np.repeat(np.linspace(0, 65535, rows).astype(np.uint16)[:, None, None], 3, axis=2)
    picture = np.repeat(ramp, 5, axis=1)
    whole = to_sdr(picture, "pq", BT2020)
    single = np.concatenate([to_sdr(picture[row : row + 1], "pq", BT2020) for row in range(rows)])
    np.testing.assert_array_equal(whole, single)
