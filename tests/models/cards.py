"""The models' cards by name, typed by family."""

from longtake.models.registry import LTX2Card, LTXVCard, card


def ltxv_card(name: str) -> LTXVCard:
    found = card(name)
    assert isinstance(found, LTXVCard)
    return found


def ltx2_card(name: str) -> LTX2Card:
    found = card(name)
    assert isinstance(found, LTX2Card)
    return found
