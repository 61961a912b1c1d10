"""Published prices as exact fractions, and an operator's prices."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from longtake.endpoints import (
    ENDPOINTS,
    by_id,
    ltx23,
    ltx23_lora,
    ltx23_quality,
    ltx23_seconds,
    ltxv097,
    ltxv097_dev,
    ltxv097_distilled,
    ltxv098,
    prices,
)
from longtake.endpoints.ltx2 import has_lora
from longtake.endpoints.tariff import Tariff, megapixels, new_seconds
from longtake.errors import InvalidRequest
from longtake.plans import Plan, PlannedAdapter
from longtake.price_setting import PriceSetting
from longtake.settings import settings
from tests.endpoints.planning import plan_of

LORA = PlannedAdapter("a", (1.0, 1.0), ("body", "loras", 0, "path"))
PRICES = {
    ltxv097: ("videos", "0.12"),
    ltxv097_dev: ("videos", "0.20"),
    ltxv097_distilled: ("videos", "0.04"),
    ltxv098: ("seconds", "0.02"),
    ltx23: ("megapixels", "0.001605"),
    ltx23_lora: ("megapixels", "0.001805"),
    ltx23_quality: ("megapixels", "0.0024075"),
    ltx23_seconds: ("seconds", "0.10"),
}


def priced(tariff: Tariff, **facts: Any) -> Plan:
    """The price of a plan of LTX-2.3 with these facts in place of its own."""
    billed: Plan = tariff.bill(replace(plan_of(ltx23.ENDPOINT, {}), **facts))
    return billed


def test_every_endpoint_has_its_published_price_and_unit() -> None:
    assert {module.ENDPOINT.id for module in PRICES} == set(ENDPOINTS)
    for module, (unit, usd) in PRICES.items():
        tariff = module.ENDPOINT.tariff
        assert (tariff.unit, tariff.usd) == (unit, Decimal(usd)), module.ENDPOINT.id
    assert ltx23.ENDPOINT.tariff.usd_with_lora == Decimal("0.001805")


@pytest.mark.parametrize("module", [ltxv097, ltxv097_dev, ltxv097_distilled])
def test_a_video_of_097_has_one_price(module: Any) -> None:
    for fields in ({}, {"resolution": "480p"}):
        plan = plan_of(module.ENDPOINT, fields)
        assert (plan.billed_units, plan.price_usd) == (1, Fraction(PRICES[module][1]))


@pytest.mark.parametrize(
    ("frames", "detail", "price"), [(24, False, "0.02"), (121, False, "121/1200"), (24, True, "0.04")]
)
def test_098_is_billed_by_the_second(frames: int, detail: bool, price: str) -> None:
    plan = plan_of(ltxv098.ENDPOINT, {"num_frames": frames, "enable_detail_pass": detail, "frame_rate": 60})
    assert plan.price_usd == Fraction(price)
    assert plan.billed_units == Fraction(price) / Fraction("0.02")


@pytest.mark.parametrize(
    ("size", "frames", "adapters", "price"),
    [
        ((1280, 720), 121, (), "0.17976"),
        ((1280, 720), 121, (LORA,), "0.20216"),
        ((1000, 1000), 1, (), "0.001605"),
        ((1000, 1002), 1, (), "0.00321"),
        ((64, 64), 9, (LORA,), "0.001805"),
    ],
)
def test_23_is_billed_by_megapixels_rounded_up(
    size: tuple[int, int], frames: int, adapters: tuple[PlannedAdapter, ...], price: str
) -> None:
    facts = {"width": size[0], "height": size[1], "billed_frames": frames, "adapters": adapters}
    assert priced(ltx23.ENDPOINT.tariff, **facts).price_usd == Fraction(price)


def test_23_seconds_is_billed_by_the_second_of_new_video() -> None:
    plan = priced(Tariff("seconds", Decimal("0.10"), new_seconds), new_frames=48, rate=Fraction(24))
    assert (plan.unit, plan.billed_units, plan.price_usd) == ("seconds", Fraction(2), Fraction("0.2"))


@pytest.mark.parametrize(
    ("adapters", "counts"),
    [
        ((), False),
        ((LORA,), True),
        ((PlannedAdapter("distill", (1.0,), ("body",), own=True),), False),
        ((PlannedAdapter("camera_static", (1.0,), ("body", "camera_lora"), own=True),), True),
        ((PlannedAdapter("distill", (1.0,), ("body",)),), True),
    ],
)
def test_only_adapters_of_the_users_choice_count_as_loras(adapters: tuple[PlannedAdapter, ...], counts: bool) -> None:
    assert has_lora(replace(plan_of(ltx23.ENDPOINT, {}), adapters=adapters)) is counts


def test_an_operators_price_replaces_the_published_one() -> None:
    tariff = Tariff("megapixels", Decimal(5), megapixels, usd_with_lora=Decimal(7))
    dear = tariff.priced(PriceSetting(usd=Decimal(1), usd_with_lora=Decimal(2)))
    facts = {"width": 1000, "height": 1000, "billed_frames": 3}
    assert [priced(dear, **facts, adapters=loras).price_usd for loras in ((), (LORA,))] == [3, 6]
    one = tariff.priced(PriceSetting(usd=Decimal(1)))
    assert [priced(one, **facts, adapters=loras).price_usd for loras in ((), (LORA,))] == [3, 3]
    assert tariff.priced(None) is tariff
    free = tariff.priced(PriceSetting(usd=Decimal(0)))
    assert priced(free, **facts).price_usd == 0
    assert priced(free, **facts).billed_units == 3


def test_a_price_of_an_unknown_endpoint_is_refused() -> None:
    own = {ltxv097.ENDPOINT.id: PriceSetting(usd=Decimal(1))}
    assert prices(settings(prices=own)) == own
    with pytest.raises(InvalidRequest, match="LONGTAKE_PRICES names 'fal-ai/none', which is no endpoint"):
        prices(settings(prices={"fal-ai/none": 1}))


def test_settings_by_endpoint_accept_every_name() -> None:
    assert by_id({"2.3": "a", "v097": "b"}) == {ltx23.ENDPOINT.id: "a", ltxv097.ENDPOINT.id: "b"}
    with pytest.raises(InvalidRequest, match="There is no endpoint 'none'"):
        by_id({"none": "a"})
