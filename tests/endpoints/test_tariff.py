"""Prices: the published ones, in exact fractions."""

from decimal import Decimal
from fractions import Fraction

import pytest

from longtake.pricing import Prices, price_097, price_098, price_23


def test_a_video_of_097_has_one_price() -> None:
    assert price_097(Prices()) == Fraction("0.12")


@pytest.mark.parametrize(
    ("frames", "detail", "price"), [(24, False, "0.02"), (121, False, "121/1200"), (24, True, "0.04")]
)
def test_098_costs_by_the_second(frames: int, detail: bool, price: str) -> None:
    assert price_098(Prices(), frames, detail) == Fraction(price)


@pytest.mark.parametrize(
    ("size", "frames", "lora", "price"),
    [
        ((1280, 720), 121, False, "0.17976"),
        ((1280, 720), 121, True, "0.20216"),
        ((1000, 1000), 1, False, "0.001605"),
        ((1000, 1002), 1, False, "0.00321"),
        ((64, 64), 9, True, "0.001805"),
    ],
)
def test_23_costs_by_the_begun_megapixel(size: tuple[int, int], frames: int, lora: bool, price: str) -> None:
    assert price_23(Prices(), size, frames, with_lora=lora) == Fraction(price)


def test_prices_are_given() -> None:
    dear = Prices(ltx2_per_megapixel=Decimal(1), ltx2_per_megapixel_with_lora=Decimal(2))
    assert [price_23(dear, (1000, 1000), 3, with_lora=lora) for lora in (False, True)] == [3, 6]
