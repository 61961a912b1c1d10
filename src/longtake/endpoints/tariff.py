"""Prices: the price of one unit at each endpoint, and the number of units that a plan has."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

from longtake.plans import Plan
from longtake.settings import PriceSetting

PIXELS_PER_MEGAPIXEL = 1_000_000


@dataclass(frozen=True)
class Tariff:
    """The price of one `unit` (`videos`, `seconds`, ...) in US dollars, and how many units a plan has.

    `usd_with_lora`: the price where `has_lora` is true of the plan; None makes no difference.
    """

    unit: str
    usd: Decimal
    units: Callable[[Plan], Fraction]
    usd_with_lora: Decimal | None = None
    has_lora: Callable[[Plan], bool] = lambda plan: any(not adapter.own for adapter in plan.adapters)

    def priced(self, setting: PriceSetting | None) -> "Tariff":
        """The tariff at an operator's price, if there is one."""
        if setting is None:
            return self
        return replace(self, usd=setting.usd, usd_with_lora=setting.usd_with_lora)

    def bill(self, plan: Plan) -> Plan:
        """The plan with its units and its price."""
        units = self.units(plan)
        usd = self.usd if self.usd_with_lora is None or not self.has_lora(plan) else self.usd_with_lora
        return replace(plan, unit=self.unit, billed_units=units, price_usd=units * Fraction(usd))


Prices = Mapping[str, PriceSetting]
"""Endpoint id -> an operator's price."""


def one_video(plan: Plan) -> Fraction:
    return Fraction(1)


def new_seconds(plan: Plan) -> Fraction:
    """The seconds of new video, to a hundredth: so five seconds at 29.97 frames per second are five."""
    return round(plan.new_frames / plan.rate, 2)


def megapixels(plan: Plan) -> Fraction:
    """Width x height x the frames that the request counts; a begun megapixel counts whole."""
    return Fraction(math.ceil(Fraction(plan.width * plan.height * plan.billed_frames, PIXELS_PER_MEGAPIXEL)))
