"""The class of model families, and the objects that the functions of every family take and return."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from pydantic import TypeAdapter

from longtake.imports import importing_models
from longtake.models.registry import ModelCard
from longtake.plans import Plan, PlannedAdapter, PlanOptions
from longtake.sampling.levels import Acceleration
from longtake.settings import Settings
from longtake.video import OnProgress, VideoInfo

if TYPE_CHECKING:
    from concurrent.futures import Future

    # The server's own process needs no arrays, and saves the time and memory that their libraries need.
    from torch import Tensor

    from longtake.media.planes import RGBFrames
    from longtake.media.sound import Samples
    from longtake.models.parts import AnyModel
    from longtake.sampling.preview import Previews
    from longtake.sampling.resume import Resume

Rows = Sequence[tuple[str, str]]
"""Lines of text for people, each as (name, value)."""


@dataclass(frozen=True, kw_only=True)
class Options(PlanOptions):
    """The options of a request that all model families share. Each family, such as LTX-2, has a subclass with its own
    options, and each endpoint makes an object of the subclass from its request.

    `seed`: the seed of the noise; None for a random seed.
    `num_frames`: the requested number of frames. The family's subclass says whether it includes source frames.
    `count_field`: the name of the request's field that sets `num_frames`, for notes to the user; None if no field does.
    `new_frames`: the number of frames to add to the whole source. If it is set, `num_frames` is ignored.
    `own_rate`: True if the output has the frame rate at which the source is read: its own rate, or the one to which it
        is resampled. An output rate in the options is then ignored.
    `end_image`: the URL or path of the picture that the new frames should arrive at, or None.
    `adapters`: the LoRAs to apply, with their scales.
    `acceleration`: a level from "none" to "full": how many sampling steps extrapolate earlier predictions instead of
        evaluating the model. None for the setting `LONGTAKE_ACCELERATION`.
    """

    seed: int | None = None
    num_frames: int = 121
    count_field: str | None = "num_frames"
    new_frames: int | None = None
    own_rate: bool = False
    end_image: str | None = None
    adapters: tuple[PlannedAdapter, ...] = ()
    acceleration: Acceleration | None = None


OptionsT = TypeVar("OptionsT", bound=Options)
PlanT = TypeVar("PlanT", bound=Plan)
CardT = TypeVar("CardT", bound=ModelCard)
CardT_contra = TypeVar("CardT_contra", bound=ModelCard, contravariant=True)
ModelT = TypeVar("ModelT", bound="AnyModel")


@dataclass(frozen=True)
class Context:
    """The source frames that the new frames continue: the end of the source, or its beginning if the new frames come
    before it.

    `frames`: [T, H, W, 3] at the output's size; T may be 0.
    `sound`: the sound of these frames, [2, n] at 48 kHz (SOUND_RATE). None if the source has no sound or if T
        is 0.
    `end_image`: the picture that the new frames should arrive at, [H, W, 3] at the output's size, or None.
    `compressed`: the frames after their compression (see `Plan.context_crf`), which a thread is working on; None if
        nothing compresses them yet.
    """

    frames: "RGBFrames"
    sound: "Samples | None" = None
    end_image: "RGBFrames | None" = None
    compressed: "Future[RGBFrames] | None" = None


@dataclass(frozen=True)
class GeneratedClip:
    """The frames that the model generated in one window or in several, and their sound.

    The context is the frames that the clip continues: source frames, or frames of the window that was sampled before.
    The decoded version of a frame is the frame after the VAE has encoded and decoded it.

    `frames`: the new frames in playing order, in chunks [t, 3, H, W] in 0..1 at the output's size. They can be read
        once. The output may show the decoded version of source frames instead of the frames themselves. Then the clip
        that continues the source has these decoded frames, too, before or after the new ones.
    `new_frames`: the number of new frames.
    `context_frames`: the number of frames of the context.
    `rendition`: the decoded version of the context frame next to the new frames, [3, H, W] in 0..1. The new frames'
        colours are corrected with it. None if there is no context, if `frames` has the context too, or if the context
        only guides the new video.
    `neighbour`: the context frame next to the new frames, [H, W, 3], if an earlier window generated it. None if it is a
        source frame.
    `sound`: the sound of the context and the new frames, [2, n] at 48 kHz (SOUND_RATE). It may be up to 25 ms longer
        than the frames, at the end that is farther from the context. None if the model makes no sound.
    """

    frames: "Iterator[Tensor]"
    new_frames: int
    context_frames: int
    rendition: "Tensor | None" = None
    neighbour: "RGBFrames | None" = None
    sound: "Samples | None" = None


@dataclass(frozen=True)
class PlanRun(Generic[PlanT, ModelT]):
    """A plan, and what is needed to carry it out.

    `model`: the loaded model.
    `resume`: saves finished windows, and finds those that an earlier run of the same plan saved.
    `on_progress`: the callback that receives the progress.
    `set_pass`: a function that sets the LoRAs' strengths for a pass. It is called as `set_pass(n)` before pass n (from
        0) of every window, and as `set_pass(None)` after the last pass of the last window, if that window was not saved
        by an earlier run.
    `previews`: receives previews of the new frames while they are sampled; None for no previews.
    """

    plan: PlanT
    model: ModelT
    settings: Settings
    resume: "Resume"
    on_progress: OnProgress
    set_pass: Callable[[int | None], None] = lambda number: None
    previews: "Previews | None" = None


@dataclass(frozen=True)
class Description:
    """The lines that a model family adds to the text form of a plan, which tells people how a video will be made. Each
    field is a list of lines (name, value).

    `goes_in`: what the model sees and hears of the source.
    `comes_out`: what the output contains.
    `how`: how the new frames are generated.
    """

    goes_in: Rows = ()
    comes_out: Rows = ()
    how: Rows = ()


class Recipe(Protocol[CardT_contra, PlanT, ModelT]):
    """The functions that load and run the models of one family (models of the same architecture, such as LTX-2). Each
    family has a module with these functions, which needs torch."""

    def load(self, card: CardT_contra, settings: Settings, on_progress: OnProgress) -> ModelT:
        """Loads the model that a model card describes onto the device that the setting `device` names.

        `on_progress`: the callback that receives the progress of loading.

        Raises BadCheckpoint if parts of the model are missing or do not fit each other. Raises NotSupported if the
        device is not available.
        """
        ...

    def expand(self, run: PlanRun[PlanT, ModelT], frame: "RGBFrames") -> tuple[str, str | None]:
        """Returns (prompt, note): the prompt to generate with, and a note for the user or None.

        - If the plan does not ask for prompt expansion, its prompt is returned unchanged, without a note.
        - If it does, a language model rewrites the prompt, and the new prompt is returned, without a note.
        - If the prompt cannot be rewritten, for example because there is no language model, it is returned unchanged,
          and the note says why.

        `run`: the plan with the loaded model.
        `frame`: the source's frame next to the new frames, [H, W, 3]. The language model may look at it.

        Raises ExpansionFailed if the language model's server cannot be reached or sends an unusable answer.
        """
        ...

    def generate(self, run: PlanRun[PlanT, ModelT], prompt: str, context: Context) -> Iterator[GeneratedClip]:
        """Yields the new frames as clips in playing order. A clip has the new frames of one window or, for LTX-Video,
        of all windows.

        `run`: the plan with the loaded model.
        `prompt`: the prompt to generate with, as `expand` returned it.
        `context`: the source frames that the new frames continue, their sound, and the end image.

        The caller must read all frames of a clip before it takes the next clip, because the next clip may continue
        these frames.
        """
        ...

    def warm_up(self, run: PlanRun[PlanT, ModelT]) -> None:
        """Compiles all code that requests with such a plan need, and lets each part of the model work once: encodes its
        prompts, evaluates the model for a few tokens in each way that the plan needs, and encodes and decodes a few
        frames.

        `run`: the plan with the loaded model and its adapters.
        """
        ...


@dataclass(frozen=True)
class Family(Generic[OptionsT, CardT, PlanT, ModelT]):
    """A family of models: its plans, and the functions that make, describe and carry them out.

    `name`: the family's name, such as `ltx2`.
    `makes_sound`: True if its models can make sound with the new frames.
    `Plan`: the class of its plans.
    `make_plan`: a function of (options, facts of the source video, model card, seed of the noise) that returns the
        plan. It raises InvalidRequest, which names the request's field, if the options cannot be served.
    `describe`: a function of (plan, facts of the source video) that returns the plan's description.
    `module`: the name of the module that is the family's `Recipe`.
    """

    name: str
    makes_sound: bool
    Plan: type[PlanT]
    make_plan: Callable[[OptionsT, VideoInfo, CardT, int], PlanT]
    describe: Callable[[PlanT, VideoInfo], Description]
    module: str

    @cached_property
    def recipe(self) -> Recipe[CardT, PlanT, ModelT]:
        """The functions that load and run the family's models. The first access imports torch."""
        with importing_models():
            return cast("Recipe[CardT, PlanT, ModelT]", import_module(self.module))

    @cached_property
    def _json(self) -> TypeAdapter[PlanT]:
        return TypeAdapter(self.Plan)

    def plan_to_json(self, plan: PlanT) -> dict[str, Any]:
        """Returns the plan of a video as JSON values. A rate is a text such as `24000/1001`."""
        document: dict[str, Any] = self._json.dump_python(plan, mode="json")
        return document

    def plan_from_json(self, document: dict[str, Any]) -> PlanT:
        """Returns the plan of a video that `plan_to_json` turned into `document`.

        Raises pydantic's ValidationError if the fields of `document` do not make a plan.
        """
        return self._json.validate_python(document)
