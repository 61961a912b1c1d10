"""A family of models as an object: its options, its plan, and the functions that load a model and generate with it."""

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
"""Lines for people to read, each with a name and a value."""


@dataclass(frozen=True, kw_only=True)
class Options(PlanOptions):
    """The options that all families have. An endpoint turns its request into an object of the family's subclass.

    `seed`: None means that a random seed is drawn.
    `num_frames`: the endpoint's own count of frames, which may include source frames. Each family's options say what it
        counts.
    `count_field`: the name of the request's field that holds `num_frames`, for notes to the user; None if no field
        does.
    `new_frames`: the number of frames to add to the whole source, instead of `num_frames`. None: `num_frames` decides.
    `own_rate`: True if the output plays at the rate at which the source is read. An output rate in the options is then
        ignored.
    `end_image`: the URL or path of the picture that the new frames should arrive at, or None.
    `acceleration`: the level of step caching; None takes the level of the setting `LONGTAKE_ACCELERATION`.
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
    """The attributes that every family's loaded model has."""

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
    """The source frames that the new frames continue: the source's end, or for a backward extension its beginning.

    `frames`: [T, H, W, 3] at the output's size; T may be 0.
    `sound`: the sound of these frames, [2, n] at SOUND_RATE. None means that there is none to continue.
    `end_image`: [H, W, 3] at the output's size, the picture that the new frames should arrive at; None if there is
        none.
    """

    frames: RGBFrames
    sound: Samples | None = None
    end_image: RGBFrames | None = None


@dataclass(frozen=True)
class GeneratedClip:
    """Generated frames in playing order, and their sound. A clip comes from one window or from several.

    The joint is where the clip meets the frames that it continues.

    `frames`: the new frames, in chunks [t, 3, H, W] in 0..1 at the output's size. If the plan shows the model's
        rendition of the context instead of the source's pixels, the clip next to the source also includes that
        rendition, on the source's side.
    `new_frames`: the number of new frames.
    `context_frames`: the number of frames that the clip continues.
    `rendition`: [3, H, W], the model's rendition of the context frame at the joint. None if there is no context, or if
        `frames` include the rendition.
    `neighbour`: [H, W, 3], the shown frame on the other side of the joint if an earlier window made it; None if it is
        the source's.
    `sound`: [2, n] at SOUND_RATE, the sound of the context frames and the new frames. At the end far from the joint it
        may be up to 25 ms longer. None if the model makes no sound.
    """

    frames: "Iterator[Tensor]"
    new_frames: int
    context_frames: int
    rendition: "Tensor | None" = None
    neighbour: RGBFrames | None = None
    sound: Samples | None = None


@dataclass(frozen=True)
class PlanRun(Generic[PlanT, ModelT]):
    """One run of a plan.

    `model`: the loaded model.
    `resume`: where finished windows are saved, and where those of an earlier run of the same plan are found.
    `set_pass`: a function that sets the adapters' strengths for a pass. The run calls `set_pass(n)` before pass n (from
        0).
    """

    plan: PlanT
    model: ModelT
    settings: Settings
    resume: "Resume"
    on_progress: OnProgress
    set_pass: Callable[[int], None] = lambda number: None


@dataclass(frozen=True)
class Description:
    """The lines about a plan that only its family can write, for people to read.

    `goes_in`: what the model sees and hears of the source.
    `comes_out`: what the output contains.
    `how`: how the new frames are generated.
    """

    goes_in: Rows = ()
    comes_out: Rows = ()
    how: Rows = ()


class Recipe(Protocol[CardT_contra, PlanT, ModelT]):
    """The functions of a family that need torch. A family's recipe is a module that defines them."""

    def load(self, card: CardT_contra, settings: Settings, on_progress: OnProgress) -> ModelT:
        """Loads the model of a card onto the device that the settings choose.

        Raises BadCheckpoint if parts of the model are missing or do not fit. Raises NotSupported if the device is not
        available.
        """
        ...

    def expand(self, run: PlanRun[PlanT, ModelT], frame: RGBFrames) -> tuple[str, str | None]:
        """Returns the prompt to generate with, and a note for the user or None.

        If the plan asks for an expanded prompt, a language model writes it. It may look at `frame` [H, W, 3], the
        source's frame at the joint. If there is no suitable language model, the prompt stays the user's own, and the
        note says why. Raises ExpansionFailed if the language model fails.
        """
        ...

    def generate(self, run: PlanRun[PlanT, ModelT], prompt: str, context: Context) -> Iterator[GeneratedClip]:
        """Yields the new frames as clips, in playing order. The caller reads all frames of a clip before it takes the
        next clip."""
        ...


@dataclass(frozen=True)
class Family(Generic[OptionsT, CardT, PlanT, ModelT]):
    """A family of models.

    `make_plan`: a function of (options, source facts, card, seed) that returns the plan. It raises InvalidRequest,
        which names the request's field, if the options cannot be served.
    `describe`: a function of (plan, source facts) that returns the plan's description.
    `recipe`: the name of the module that is the family's `Recipe`. It imports torch, so it is imported only when
        `load`, `expand` or `generate` is called.
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
        """Returns the plan as JSON values. A rate is a text such as `24000/1001`."""
        document: dict[str, Any] = self._json.dump_python(plan, mode="json")
        return document

    def plan_from_json(self, document: dict[str, Any]) -> PlanT:
        """Returns the plan of the JSON values `document`, which `plan_to_json` returned.

        Raises pydantic's ValidationError if the fields of `document` do not make a plan.
        """
        return self._json.validate_python(document)
