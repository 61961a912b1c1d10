"""A family of models as an object: its options, its plan, and the functions that load a model and generate."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from longtake.media.sound import Samples
from longtake.models.registry import ModelCard
from longtake.plans import Plan, PlannedAdapter, PlanOptions
from longtake.sampling.levels import Acceleration
from longtake.settings import Settings
from longtake.video import OnProgress, VideoInfo

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from longtake.sampling.resume import Resume

RGBFrames = NDArray[np.uint8]
"""Frames [t, H, W, 3], or one frame [H, W, 3], in 0..255."""

Rows = Sequence[tuple[str, str]]
"""Lines of name and value for people to read."""


@dataclass(frozen=True, kw_only=True)
class Options(PlanOptions):
    """The options that all families have. An endpoint maps the fields of its request onto a family's options.

    `seed`: None draws one. `num_frames` is the number of frames as the endpoint counts them, and `count_field` the
    request's field that holds it (None: no field does). `new_frames`, unless None, replaces `num_frames`: the whole
    source is shown, and this many frames are added. `own_rate`: the output plays at the source's rate, whatever the
    other options say. `end_image`: the address of an image to arrive at. `acceleration`: None is the setting's.
    """

    seed: int | None = None
    num_frames: int = 121
    count_field: str | None = "num_frames"
    new_frames: int | None = None
    own_rate: bool = False
    end_image: str | None = None
    adapters: tuple[PlannedAdapter, ...] = ()
    acceleration: Acceleration | None = None


class LoadedModel(Protocol):
    """The attributes that the loaded models of all families have."""

    @property
    def card(self) -> ModelCard: ...
    @property
    def transformer(self) -> Any: ...
    @property
    def device(self) -> "torch.device": ...


OptionsT = TypeVar("OptionsT", bound=Options)
PlanT = TypeVar("PlanT", bound=Plan)
CardT = TypeVar("CardT", bound=ModelCard)
CardT_contra = TypeVar("CardT_contra", bound=ModelCard, contravariant=True)
ModelT = TypeVar("ModelT", bound=LoadedModel)


@dataclass(frozen=True)
class Context:
    """The end of the source that the new frames continue (backward: its beginning).

    `frames` [n, H, W, 3] have the output's size. `sound` [2, n] is heard with them; None leaves the model's sound free.
    `end_image` [H, W, 3] is the image to arrive at, or None.
    """

    frames: RGBFrames
    sound: Samples | None = None
    end_image: RGBFrames | None = None


@dataclass(frozen=True)
class GeneratedClip:
    """The `new_frames` frames that one or more windows add, in playing order, and their sound.

    `frames` yields chunks [t, 3, H, W] in 0..1 at the output's size. If the plan shows the model's rendition of the
    context instead of the source's pixels, the chunks contain that rendition too, on the context's side.
    `rendition` [3, H, W] is the model's rendition of the context frame at the joint; None if there is no context or if
    `frames` contain it. `neighbour` [H, W, 3] is the frame on the other side of the joint if an earlier window made it;
    None if it is the source's. `sound` [2, n] covers the `context_frames` before the joint and the new frames, and up
    to a fraction of a second more at the end far from the joint; None if the model makes no sound.
    """

    frames: "Iterator[Tensor]"
    new_frames: int
    context_frames: int
    rendition: "Tensor | None" = None
    neighbour: RGBFrames | None = None
    sound: Samples | None = None


@dataclass(frozen=True)
class PlanRun(Generic[PlanT, ModelT]):
    """One run of a plan: the plan, the loaded model, and what the run reports to and resumes from.

    `set_pass(n)` is called before pass n (from 0); it gives the adapters their strengths in that pass.
    """

    plan: PlanT
    model: ModelT
    settings: Settings
    resume: "Resume"
    on_progress: OnProgress
    set_pass: Callable[[int], None] = lambda number: None


@dataclass(frozen=True)
class Description:
    """A plan for people to read: what goes in, what comes out, and how it is generated."""

    goes_in: Rows = ()
    comes_out: Rows = ()
    how: Rows = ()


class Recipe(Protocol[CardT_contra, PlanT, ModelT]):
    """The functions of a family that need torch; a module that defines them is a recipe."""

    def load(self, card: CardT_contra, settings: Settings, on_progress: OnProgress) -> ModelT:
        """Loads the model of a card onto the device that the settings choose."""
        ...

    def expand(self, run: PlanRun[PlanT, ModelT], frame: RGBFrames) -> tuple[str, str | None]:
        """Returns the prompt to use, given the source's frame [H, W, 3] at the joint, and a note for the user, or None.

        The note says why the prompt is still the user's own although the plan asks for an expanded one.
        """
        ...

    def generate(self, run: PlanRun[PlanT, ModelT], prompt: str, context: Context) -> Iterator[GeneratedClip]:
        """Yields the new frames in playing order. Read all frames of a clip before asking for the next clip."""
        ...


@dataclass(frozen=True)
class Family(Generic[OptionsT, CardT, PlanT, ModelT]):
    """A family of models and its recipe.

    `make_plan(options, source, card, seed)` decides everything about a generation, or raises InvalidRequest naming the
    request's field. `recipe` is the name of the module with the family's `Recipe`. It imports torch, so it is imported
    at the first call of `load`, `expand` or `generate`.
    """

    name: str
    Plan: type[PlanT]
    make_plan: Callable[[OptionsT, VideoInfo, CardT, int], PlanT]
    describe: Callable[[PlanT, VideoInfo], Description]
    recipe: str

    @cached_property
    def _recipe(self) -> Recipe[CardT, PlanT, ModelT]:
        return cast("Recipe[CardT, PlanT, ModelT]", import_module(self.recipe))

    def load(self, card: CardT, settings: Settings, on_progress: OnProgress) -> ModelT:
        """See `Recipe.load`."""
        return self._recipe.load(card, settings, on_progress)

    def expand(self, run: PlanRun[PlanT, ModelT], frame: RGBFrames) -> tuple[str, str | None]:
        """See `Recipe.expand`."""
        return self._recipe.expand(run, frame)

    def generate(self, run: PlanRun[PlanT, ModelT], prompt: str, context: Context) -> Iterator[GeneratedClip]:
        """See `Recipe.generate`."""
        return self._recipe.generate(run, prompt, context)

    @cached_property
    def _json(self) -> TypeAdapter[PlanT]:
        return TypeAdapter(self.Plan)

    def plan_to_json(self, plan: PlanT) -> dict[str, Any]:
        """Returns the plan as plain JSON values; rates are written as fractions."""
        document: dict[str, Any] = self._json.dump_python(plan, mode="json")
        return document

    def plan_from_json(self, document: dict[str, Any]) -> PlanT:
        """Returns the plan that `plan_to_json` wrote. Raises pydantic's ValidationError for any other document."""
        return self._json.validate_python(document)
