"""Computes the price of a generated video: the price of one billed unit, such as a second of new video, times the
number of units."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

from longtake.plans import Plan
from longtake.price_setting import PriceSetting

PIXELS_PER_MEGAPIXEL = 1_000_000


@dataclass(frozen=True)
class Tariff:
    """How an endpoint computes the price of a plan.

    unit: name of the billed unit in the plural, such as `videos` or `seconds`.
    usd: price of one unit in US dollars.
    units: function that returns the number of units of a plan.
    usd_with_lora: price of one unit in US dollars if `has_lora(plan)` is True; None means that the price is `usd`.
    has_lora: function that returns True if a plan applies a LoRA that raises the price. By default, every LoRA
        raises it except the model's own adapters.
    """

    unit: str
    usd: Decimal
    units: Callable[[Plan], Fraction]
    usd_with_lora: Decimal | None = None
    has_lora: Callable[[Plan], bool] = lambda plan: any(not adapter.own for adapter in plan.adapters)

    def priced(self, setting: PriceSetting | None) -> "Tariff":
        """Returns a copy of the tariff in which the operator's prices for the endpoint replace its own.

        setting: the operator's prices; None (the operator has set none) returns the tariff unchanged.
        """
        if setting is None:
            return self
        return replace(self, usd=setting.usd, usd_with_lora=setting.usd_with_lora)

    def bill(self, plan: Plan) -> Plan:
        """Returns the plan with its unit, number of units and price filled in."""
        units = self.units(plan)
        usd = self.usd if self.usd_with_lora is None or not self.has_lora(plan) else self.usd_with_lora
        return replace(plan, unit=self.unit, billed_units=units, price_usd=units * Fraction(usd))


Prices = Mapping[str, PriceSetting]
"""The prices that the operator has set, by endpoint id."""


def one_video(plan: Plan) -> Fraction:
    """Returns 1: the number of billed units if the unit is `videos`. Every video costs the same."""
    return Fraction(1)


def new_seconds(plan: Plan) -> Fraction:
    """Returns the seconds of new video, rounded to hundredths. Half a hundredth is rounded to the even hundredth.

    Example: 5 s at 30000/1001 frames per second are 150 frames. They last exactly 5.005 s, which is rounded to 5 s.
    """
    return round(plan.new_frames / plan.rate, 2)


def megapixels(plan: Plan) -> Fraction:
    """Returns width x height x `plan.billed_frames` in megapixels (10**6 pixels), rounded up to a whole number."""
    return Fraction(math.ceil(Fraction(plan.width * plan.height * plan.billed_frames, PIXELS_PER_MEGAPIXEL)))
