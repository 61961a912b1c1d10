"""The values that a shell completes: of options with a fixed list of values, endpoints and models."""

import os
import re
from collections.abc import Callable, Sequence

Values = Callable[[str], list[tuple[str, str]]]
"""A function of the beginning that the user has typed. It returns (value, description) pairs, of which typer keeps
those that begin so. Shells that show descriptions show them beside the values."""


def fixed(values: Sequence[object]) -> Values:
    """Returns the function for an option that accepts only these values."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        return [(for_shell(str(value)), "") for value in values]

    return complete


def endpoints(incomplete: str) -> list[tuple[str, str]]:
    """Returns the short names of all endpoints and, if something is typed already, also their ids."""
    from longtake.endpoints import ENDPOINTS

    names = [(one.name, one.id) for one in ENDPOINTS.values()]
    return names + [(one.id, one.name) for one in ENDPOINTS.values()] if incomplete else names


def models(incomplete: str) -> list[tuple[str, str]]:
    """Returns the names of all models."""
    from longtake.models.registry import CARDS

    return [(card.name, card.title) for card in CARDS.values()]


def published_models(incomplete: str) -> list[tuple[str, str]]:
    """Returns the names of the models that can be downloaded and deleted."""
    from longtake.models.registry import CARDS

    return [(card.name, card.title) for card in CARDS.values() if not card.embedded]


def for_shell(value: str) -> str:
    """Returns a value as the completing shell needs it.

    Bash inserts a value as it is, so blanks and other special characters get a backslash. Other shells add what they
    need themselves.
    """
    if os.environ.get("_LONGTAKE_COMPLETE") != "complete_bash":
        return value
    return re.sub(r"([^\w.,:=@%/+-])", r"\\\1", value)
