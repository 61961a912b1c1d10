"""Decides which model carries out a request: a published one, or a miniature that stands in for it.

A miniature is one of the small models in the package. This module needs no torch.
"""

from dataclasses import dataclass

from longtake.errors import ModelNotInstalled
from longtake.models.registry import CARDS, ModelCard, card, missing
from longtake.settings import Settings


@dataclass(frozen=True)
class ModelChoice:
    """The model that carries out a request.

    card: the facts of the model, such as its name and its limits.
    stands_in_for: name of the published model in whose place this small model is used, because the published one is not
        installed; None if the model is the requested one.
    note: a sentence for the user, with the command that fetches the missing model: that a miniature stands in, or that
        the model is not installed. None if there is nothing to say.
    installed: True if the model can be loaded. Otherwise the request can be planned, but not carried out.
    """

    card: ModelCard
    stands_in_for: str | None = None
    note: str | None = None
    installed: bool = True

    def check(self) -> None:
        """Raises ModelNotInstalled, with `note` as its sentence, if the model is not installed."""
        if not self.installed:
            raise ModelNotInstalled(str(self.note))


def named_model(name: str, settings: Settings) -> ModelChoice:
    """Returns the model with this name as a ModelChoice, installed or not. No other model stands in for it.

    The name may also be that of a small model in the package. Raises `NotSupported` for an unknown name.
    """
    note = not_installed(card(name), settings)
    return ModelChoice(card(name), note=note, installed=note is None)


def choose_model(own: ModelCard, miniature: ModelCard, settings: Settings) -> ModelChoice:
    """Returns the model that carries out the requests of an endpoint:

    - the endpoint's published model, if it is installed
    - otherwise its miniature, if `settings.stand_in` is "allow", or if it is "auto" and no published model is installed
    - otherwise the published model, with `installed` False.

    own: the endpoint's published model.
    miniature: the small model in the package that may stand in for it.
    """
    note = not_installed(own, settings)
    if note is None:
        return ModelChoice(own)
    fetch = pull_command(own)
    if settings.stand_in == "refuse":
        reason = f"{own.name} is not installed, and LONGTAKE_STAND_IN=refuse lets no miniature stand in for it"
        return ModelChoice(own, note=f"{reason}; `{fetch}` fetches it.", installed=False)
    others = [one.name for one in CARDS.values() if not one.embedded and not missing(one, settings)]
    if settings.stand_in == "auto" and others:
        reason = (
            f"{own.name} is not installed; a miniature stands in for it only where no published model is installed, "
            f"and {', '.join(others)} is"
        )
        remedy = f"`{fetch}` fetches it, LONGTAKE_STAND_IN=allow lets the miniature stand in"
        return ModelChoice(own, note=f"{reason}. {remedy}.", installed=False)
    return stand_in(own, miniature)


def stand_in(own: ModelCard, miniature: ModelCard) -> ModelChoice:
    """Returns the miniature, a small model in the package, as the model that carries out requests in place of a
    published model that is not installed.

    The result's `note` says so to the user, and names the command that downloads the published model.

    own: the published model.
    miniature: the small model.
    """
    note = (
        f"{miniature.name}, a miniature that makes simple moving shapes, stands in for {own.name}, which is not "
        f"installed; `{pull_command(own)}` fetches it."
    )
    return ModelChoice(miniature, own.name, note)


def not_installed(card: ModelCard, settings: Settings) -> str | None:
    """Returns a sentence that says which parts of a model are not on this machine, and how to get them.

    Returns None if the model is installed.
    """
    lacking = missing(card, settings)
    if not lacking:
        return None
    remedy = "install the package again" if card.embedded else f"`{pull_command(card)}` fetches what is missing"
    return f"{card.name} is not installed: this machine lacks its {', '.join(lacking)}; {remedy}."


def pull_command(card: ModelCard) -> str:
    """Returns the command that downloads a published model."""
    return f"longtake models pull {card.name}"
