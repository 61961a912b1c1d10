"""What a request costs: fal's published prices, in US dollars; each is a setting."""

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

BILLED_RATE = 24
"""0.9.8 bills 24 frames as a second, whatever the playback rate."""


@dataclass(frozen=True)
class Prices:
    ltxv097_per_video: Decimal = Decimal("0.12")
    ltxv098_per_second: Decimal = Decimal("0.02")
    ltxv098_detail_factor: int = 2
    ltx2_per_megapixel: Decimal = Decimal("0.001605")
    ltx2_per_megapixel_with_lora: Decimal = Decimal("0.001805")


def price_097(prices: Prices) -> Fraction:
    """Per video."""
    return Fraction(prices.ltxv097_per_video)


def price_098(prices: Prices, num_frames: int, detail_pass: bool) -> Fraction:
    """Per second of output at 24 billed frames per second; the detail pass doubles it."""
    seconds = Fraction(num_frames, BILLED_RATE)
    return Fraction(prices.ltxv098_per_second) * seconds * (prices.ltxv098_detail_factor if detail_pass else 1)


def price_23(prices: Prices, size: tuple[int, int], num_frames: int, *, with_lora: bool) -> Fraction:
    """Per begun megapixel of generated video: width x height x new frames; a LoRA that the user names raises it."""
    megapixels = -(-size[0] * size[1] * num_frames // 1_000_000)
    return megapixels * Fraction(prices.ltx2_per_megapixel_with_lora if with_lora else prices.ltx2_per_megapixel)
