"""A family of models as an object: its options, its plan, and the functions that load it and generate."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from longtake.models.registry import ModelCard
from longtake.plans import Choices, Plan, PlannedAdapter
from longtake.sampling.levels import Acceleration
from longtake.settings import Settings
from longtake.video import OnProgress, VideoInfo

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from longtake.sampling.resume import Resume

Frames = NDArray[np.uint8]
"""Frames [t, height, width, 3], or one of them, in 0..255."""

Samples = NDArray[np.float32]
"""Stereo sound [2, n] in -1..1 at SOUND_RATE."""

Rows = Sequence[tuple[str, str]]
"""Lines of name and value, as people read them."""


@dataclass(frozen=True, kw_only=True)
class Options(Choices):
    """The options that all families have. An endpoint maps the fields of its request onto a family's options.

    `seed`: None draws one. `num_frames` counts as the endpoint does, in the field `count_field` (None: it has no field
    for that); `new_frames`, where it is given, takes its place:
    the whole source is kept and so many frames are added. `own_rate`: the output plays at the source's own rate,
    whatever else says. `end_image`: the address of a picture to arrive at. `acceleration`: None is the setting's.
    """

    seed: int | None = None
    num_frames: int = 121
    count_field: str | None = "num_frames"
    new_frames: int | None = None
    own_rate: bool = False
    end_image: str | None = None
    adapters: tuple[PlannedAdapter, ...] = ()
    acceleration: Acceleration | None = None


class Parts(Protocol):
    """The loaded parts of a model that every family has."""

    @property
    def card(self) -> ModelCard: ...
    @property
    def transformer(self) -> Any: ...
    @property
    def device(self) -> "torch.device": ...


OptionsT = TypeVar("OptionsT", bound=Options)
CardT = TypeVar("CardT", bound=ModelCard)
PlanT = TypeVar("PlanT", bound=Plan)
PartsT = TypeVar("PartsT", bound=Parts)


@dataclass(frozen=True)
class Context:
    """The video that is continued.

    `frames` [n, H, W, 3] at the output's size, the `sound` heard with them (None where there is none to hold on to),
    and the `end_image` [H, W, 3] to arrive at.
    """

    frames: Frames
    sound: Samples | None = None
    end_image: Frames | None = None


@dataclass(frozen=True)
class Piece:
    """New frames in playing order, `new_frames` of them, and their sound.

    `frames` are chunks [t, 3, H, W] in 0..1 at the output's size; where the context is not shown as it is, the model's
    rendition of it comes with them, on its side. Else `rendition` [3, H, W] is how the model renders the frame at the
    joint, and `shown` [H, W, 3] that frame where an earlier piece made it. `sound` [2, n] is that of the
    `context_frames` before the joint and of the new frames, and some more at the end far from the context.
    """

    frames: "Iterator[Tensor]"
    new_frames: int
    context_frames: int
    rendition: "Tensor | None" = None
    shown: Frames | None = None
    sound: Samples | None = None


@dataclass(frozen=True)
class Work(Generic[PlanT, PartsT]):
    """A plan with everything that is needed to carry it out.

    `set_pass(n)` is called before pass n and gives the adapters the strengths of that pass.
    """

    plan: PlanT
    parts: PartsT
    settings: Settings
    resume: "Resume"
    on_progress: OnProgress
    set_pass: Callable[[int], None] = lambda number: None


@dataclass(frozen=True)
class Description:
    """A plan as people read it: what goes in, what comes out, and how it is made."""

    goes_in: Rows = ()
    comes_out: Rows = ()
    how: Rows = ()


@dataclass(frozen=True)
class Family(Generic[OptionsT, CardT, PlanT, PartsT]):
    """A family of models and its recipe. Importing one brings no torch: `load`, `expand` and `generate` do.

    `make_plan(options, source, card, seed)` decides what will be done, or raises InvalidRequest naming the field.
    `load(card, settings, on_progress)` loads a model's parts. `expand(work, frame)` is the fuller prompt to use, given
    the frame at the joint, and a sentence where it is still the user's own. `generate(work, prompt, context)` makes
    the new frames, in playing order; take the frames of a piece before asking for the next.
    """

    name: str
    Plan: type[PlanT]
    make_plan: Callable[[OptionsT, VideoInfo, CardT, int], PlanT]
    describe: Callable[[PlanT, VideoInfo], Description]
    load: Callable[[CardT, Settings, OnProgress], PartsT]
    expand: Callable[[Work[PlanT, PartsT], Frames], tuple[str, str | None]]
    generate: Callable[[Work[PlanT, PartsT], str, Context], Iterator[Piece]]

    @cached_property
    def _json(self) -> TypeAdapter[PlanT]:
        return TypeAdapter(self.Plan)

    def plan_to_json(self, plan: PlanT) -> dict[str, Any]:
        """The plan as plain JSON values; rates are written as fractions."""
        document: dict[str, Any] = self._json.dump_python(plan, mode="json")
        return document

    def plan_from_json(self, document: dict[str, Any]) -> PlanT:
        """The plan that `plan_to_json` wrote."""
        return self._json.validate_python(document)
