"""Shell completion for three kinds of values: fixed lists of values, the names of endpoints, the names of models."""

import os
import re
from collections.abc import Callable, Sequence

Values = Callable[[str], list[tuple[str, str]]]
"""A completion function, which typer calls with the part of a value that the user has typed so far.

It returns (value, description) pairs. Typer drops the pairs whose value does not begin with that part. Some shells show
the descriptions beside the values.
"""


def fixed(values: Sequence[object]) -> Values:
    """Returns a completion function that always offers the same values, for an option that accepts only these."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        return [(for_shell(str(value)), "") for value in values]

    return complete


def endpoints(incomplete: str) -> list[tuple[str, str]]:
    """Returns the names of endpoints that the shell may offer, as pairs (name, description).

    - If the user has typed nothing yet (`incomplete` is empty): (short name, id) of each endpoint.
    - Otherwise also (id, short name) of each endpoint. Typer drops the names that do not begin with `incomplete`, the
      text that the user has typed so far.
    """
    from longtake.endpoints import ENDPOINTS

    names = [(one.name, one.id) for one in ENDPOINTS.values()]
    return names + [(one.id, one.name) for one in ENDPOINTS.values()] if incomplete else names


def models(incomplete: str) -> list[tuple[str, str]]:
    """Returns the (name, title) of each model.

    Typer drops the names that do not begin with `incomplete`, the text that the user has typed so far.
    """
    from longtake.models.registry import CARDS

    return [(card.name, card.title) for card in CARDS.values()]


def published_models(incomplete: str) -> list[tuple[str, str]]:
    """Returns the (name, title) of each model that can be downloaded and deleted.

    Typer drops the names that do not begin with `incomplete`, the text that the user has typed so far.
    """
    from longtake.models.registry import CARDS

    return [(card.name, card.title) for card in CARDS.values() if not card.embedded]


def for_shell(value: str) -> str:
    """Returns a value in the form in which the user's shell inserts it into the command line.

    Bash inserts a value as it is, so blanks and other special characters get a backslash. Other shells add what they
    need themselves.
    """
    if os.environ.get("_LONGTAKE_COMPLETE") != "complete_bash":
        return value
    return re.sub(r"([^\w.,:=@%/+-])", r"\\\1", value)
