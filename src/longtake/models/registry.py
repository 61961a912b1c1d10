"""The models: their facts, where their parts are published, and where they are on this machine. Needs no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, get_args

from longtake.errors import Loc, NotSupported
from longtake.settings import Settings, expanded

PartName = Literal["transformer", "vae", "audio_vae", "vocoder", "connectors", "upsampler", "text_encoder", "tokenizer"]
"""A part of a model. The vocoder turns the audio VAE's spectrograms into sound. The connectors turn the text encoder's
hidden states into text tokens. The upsampler doubles the width and height of latents for a second run through the
sampling steps."""

PART_NAMES: tuple[PartName, ...] = get_args(PartName)

ALONE: tuple[PartName, ...] = ("upsampler", "text_encoder", "tokenizer")
"""Parts of a model that each have a file or folder of their own. The other parts may share one checkpoint file."""

FOLDERS: Mapping[PartName, str] = {
    **{part: part for part in PART_NAMES},
    "upsampler": "latent_upsampler",
}
"""For each part of a model, the name of its folder inside a model's folder in diffusers layout."""

LORAS = "loras"
"""The name of the folder, inside a model's folder, that holds the model's own adapters as `<name>.safetensors`."""

CAMERAS = ("dolly_in", "dolly_out", "dolly_left", "dolly_right", "jib_up", "jib_down", "static")
"""Camera movements for which LTX-2 models have an adapter, named `camera_<movement>`."""

WEIGHTS = Path(__file__).parent.parent / "weights"
"""The folder of the small models that ship inside the package."""


@dataclass(frozen=True)
class Published:
    """The place where a part of a model or an adapter is published, and the place where it is saved.

    repo: the repository on the Hugging Face hub, as `owner/name`.
    path: the file or folder in the repository that holds the part; `.` is the whole repository.
    folder: a folder in `settings.models_dir`. The part is saved as `folder / path` there. Models that share a part name
        the same folder, so that it is saved once.
    gigabytes: about how large the files are, in 10^9 bytes. The hub states the exact size before a download.
    """

    repo: str
    path: str
    folder: str
    gigabytes: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """The facts of one model that all families have.

    name: the model's name in settings and commands. The folder of its weights has this name, too.
    title: the model in one line, for people.
    licence: the licence of the weights in one line, for people.
    family: "ltxv" or "ltx2".
    parts: part, such as "transformer" or "vae" -> where it is published; None if it is in the package.
    embedded: True if the model's weights are in the package.
    borrowed: part -> the name of another model in the package, whose folder holds that part.
    loras: name of one of the model's own adapters -> where it is published; None if it is in the package.
    native_short_side: the short side in pixels of the frames that are sampled first (a second pass may double them);
        None if the model works at any size.
    spatial_compression: pixels per latent, in width and in height.
    temporal_compression: frames per latent frame. The first latent frame holds one frame.
    window_frames: the largest number of frames in one window: its context and new frames.
    max_context_frames: the largest number of context frames of a window. It does not limit LTX-Video if one window
        holds the whole video.
    prompt_tokens: the number of tokens of an encoded prompt. Shorter prompts are padded, longer ones are cut.
    writes_prompts: True if the text encoder can also expand prompts.
    """

    name: str
    title: str
    licence: str
    family: ClassVar[str]
    parts: Mapping[PartName, Published | None] = field(hash=False)
    embedded: bool = False
    borrowed: Mapping[PartName, str] = field(default_factory=dict, hash=False)
    loras: Mapping[str, Published | None] = field(default_factory=dict, hash=False)
    native_short_side: int | None = None
    spatial_compression: int = 32
    temporal_compression: int = 8
    window_frames: int = 257
    max_context_frames: int = 121
    prompt_tokens: int = 256
    writes_prompts: bool = False


@dataclass(frozen=True, kw_only=True)
class LTXVCard(ModelCard):
    """The facts of an LTX-Video 0.9.x model.

    guidance: the name of a guidance profile in `families/ltxv/profiles.py`.
    overlap_latents: the number of latent frames that neighbouring windows share.
    overlap_strength: how closely a window follows the window before it in the latent frames that they share: 0 (not at
        all) to 1 (unchanged).
    conditioning_noise_scale: how much noise is added, at each sampling step, to the tokens of strength 1, which are
        kept and not denoised. At noise level t (0..1) its standard deviation is this number times t squared.
    decode_timestep: the timestep that the VAE's decoder is conditioned on, 0..1.
    decode_noise_scale: the share of noise that is mixed into normalised latents before they are decoded, 0..1.
    """

    family: ClassVar[str] = "ltxv"
    guidance: Literal["dev", "distilled", "tiny"]
    overlap_latents: int = 3
    overlap_strength: float = 0.5
    conditioning_noise_scale: float = 0.15
    decode_timestep: float = 0.05
    decode_noise_scale: float = 0.025


@dataclass(frozen=True, kw_only=True)
class LTX2Card(ModelCard):
    """The facts of an LTX-2 model.

    stg_blocks: the numbers (from 0) of the transformer blocks in which spatio-temporal guidance switches off the
        self-attention.
    guidance_share: how much of a request's guidance is applied: 1 applies the request's scales, 0 turns guidance off.
        It is below 1 for the small LTX-2 model in the package, whose output breaks at the scales that suit the model
        with 22B parameters.
    least_loudness: the least loudness of generated sound that the model continues, as a share of the loudness of the
        source's sound. Quieter generated sound is first amplified to this loudness. 0 amplifies nothing. The small
        model in the package needs this, because it continues quiet sound with still quieter sound.
    """

    family: ClassVar[str] = "ltx2"
    stg_blocks: tuple[int, ...]
    guidance_share: float = 1.0
    least_loudness: float = 0.0


_HUB = "Lightricks/LTX-Video"
_OPEN_WEIGHTS = "LTXV Open Weights License (Lightricks): weights are fetched by you under its terms."


_LTXV_PARTS: tuple[PartName, ...] = ("transformer", "vae", *ALONE)
_LTX2_SINGLE_PARTS: tuple[PartName, ...] = ("transformer", "vae", "audio_vae", "vocoder", "connectors")


def _published(name: str, upscaler: str) -> Mapping[PartName, Published | None]:
    single = Published(_HUB, f"{name}.safetensors", name, 28.6)
    return {
        "transformer": single,
        "vae": single,
        "upsampler": Published(_HUB, f"{upscaler}.safetensors", name, 0.5),
        "text_encoder": Published(_HUB, "text_encoder", "ltxv-t5-xxl", 9.5),
        "tokenizer": Published(_HUB, "tokenizer", "ltxv-t5-xxl"),
    }


_LTX2_HUB = "Lightricks/LTX-2.3"
_GEMMA = Published("google/gemma-3-12b-it-qat-q4_0-unquantized", ".", "gemma-3-12b-it-qat-q4_0-unquantized", 24.4)
_LTX2_SINGLE = Published(_LTX2_HUB, "ltx-2.3-22b-dev.safetensors", "ltx-2.3", 46.1)


def _camera(movement: str) -> Published:
    name = f"LTX-2-19b-LoRA-Camera-Control-{movement.replace('_', ' ').title().replace(' ', '-')}"
    return Published(f"Lightricks/{name}", f"{name.lower()}.safetensors", f"ltx-2.3/{LORAS}", 0.3)


CARDS: Mapping[str, ModelCard] = {
    card.name: card
    for card in (
        LTXVCard(
            name="ltxv-tiny",
            title="The embedded LTX-Video miniature: simple moving shapes, on any CPU",
            licence="Apache-2.0, as the package.",
            parts=dict.fromkeys(_LTXV_PARTS),
            guidance="tiny",
            embedded=True,
            native_short_side=64,
            spatial_compression=16,
            temporal_compression=4,
            window_frames=41,
            overlap_latents=4,
            overlap_strength=1.0,
            max_context_frames=17,
            conditioning_noise_scale=0.0,
            prompt_tokens=32,
        ),
        LTXVCard(
            name="ltxv-13b-0.9.7-dev",
            title="LTX-Video 0.9.7 13B, development",
            licence=_OPEN_WEIGHTS,
            guidance="dev",
            parts=_published("ltxv-13b-0.9.7-dev", "ltxv-spatial-upscaler-0.9.7"),
        ),
        LTXVCard(
            name="ltxv-13b-0.9.7-distilled",
            title="LTX-Video 0.9.7 13B, distilled",
            licence=_OPEN_WEIGHTS,
            guidance="distilled",
            parts=_published("ltxv-13b-0.9.7-distilled", "ltxv-spatial-upscaler-0.9.7"),
        ),
        LTXVCard(
            name="ltxv-13b-0.9.8-distilled",
            title="LTX-Video 0.9.8 13B, distilled",
            licence=_OPEN_WEIGHTS,
            guidance="distilled",
            parts=_published("ltxv-13b-0.9.8-distilled", "ltxv-spatial-upscaler-0.9.8"),
        ),
        LTX2Card(
            name="ltx2-tiny",
            title="The embedded LTX-2 miniature: simple moving shapes that sound, on any CPU",
            licence="Apache-2.0, as the package.",
            parts=dict.fromkeys((*_LTX2_SINGLE_PARTS, *ALONE)),
            embedded=True,
            loras={"distill": None} | {f"camera_{movement}": None for movement in CAMERAS},
            borrowed={"upsampler": "ltxv-tiny"},
            native_short_side=64,
            spatial_compression=16,
            temporal_compression=4,
            window_frames=41,
            max_context_frames=17,
            stg_blocks=(2,),
            guidance_share=0.25,
            least_loudness=0.5,
            prompt_tokens=32,
        ),
        LTX2Card(
            name="ltx-2.3",
            writes_prompts=True,
            title="LTX-2.3 22B, development, with its distilled and camera adapters",
            licence=(
                "LTX-2 Community License (Lightricks) and Gemma Terms of Use (Google): weights are fetched by you "
                "under their terms."
            ),
            parts={
                **dict.fromkeys(_LTX2_SINGLE_PARTS, _LTX2_SINGLE),
                "upsampler": Published(_LTX2_HUB, "ltx-2.3-spatial-upscaler-x2-1.1.safetensors", "ltx-2.3", 1.0),
                "text_encoder": _GEMMA,
                "tokenizer": _GEMMA,
            },
            loras={
                "distill": Published(_LTX2_HUB, "ltx-2.3-22b-distilled-lora-384-1.1.safetensors", "ltx-2.3", 7.6),
                **{f"camera_{movement}": _camera(movement) for movement in CAMERAS},
            },
            window_frames=1201,
            max_context_frames=481,
            stg_blocks=(28,),
            prompt_tokens=1024,
        ),
    )
}


def card(name: str) -> ModelCard:
    """Returns the model card (the facts) of the model with this name. Raises `NotSupported` for an unknown name; the
    message lists all names."""
    if name not in CARDS:
        raise NotSupported(
            f"There is no model named {name[:100]!r}; the models are {', '.join(CARDS)}.",
            value=name,
            ctx={"supported": list(CARDS)},
        )
    return CARDS[name]


def located(card: ModelCard, settings: Settings) -> dict[PartName, Path]:
    """Returns part -> its path (a checkpoint file or a folder), for each part of a model that is on this machine.

    For example the VAE of a model is in the folder `models_dir/<name>/vae`. A model has one or two places, each a
    folder or a checkpoint file:
    - If `settings.model_sources[name]` is an existing path: that path, and then `models_dir/<name>`.
    - Otherwise: `models_dir/<name>`. For a small model that ships inside this package it is `WEIGHTS/<name>` instead,
      where WEIGHTS is a folder of the package.

    A part's path is the first of these that exists:
    1. the part's folder (`FOLDERS` has its name) in one of these places;
    2. one of these places itself, if it is a checkpoint file. This does not hold for the upsampler, the text encoder
       and the tokenizer, which are never in one file with other parts;
    3. the part's folder in the other model that has this part (see `ModelCard.borrowed`);
    4. the path that the part has where it is published (`Published.path`), in one of these places;
    5. the same path in `models_dir/<Published.folder>`.
    """
    homes = _homes(card, settings)
    found: dict[PartName, Path] = {}
    for part, published in card.parts.items():
        places = [home / FOLDERS[part] for home in homes if home.is_dir()]
        if part not in ALONE:
            places += [home for home in homes if home.is_file()]
        if part in card.borrowed:
            places.append(WEIGHTS / card.borrowed[part] / FOLDERS[part])
        if published is not None:
            places += _places(published, homes, settings)
        place = next((place for place in places if place.exists()), None)
        if place is not None:
            found[part] = place
    return found


def _places(published: Published, homes: Sequence[Path], settings: Settings) -> list[Path]:
    """Returns the paths at which a downloaded part of a model or adapter may be, first choice first. They need not
    exist.

    published: the place where the part or adapter is published.
    homes: the model's folders or checkpoint files, from `_homes`.
    """
    at_home = [] if published.path == "." else [home / published.path for home in homes]
    return [*at_home, settings.models_dir / published.folder / published.path]


def _homes(card: ModelCard, settings: Settings) -> list[Path]:
    """Returns the folders or checkpoint files that may hold a model's parts (see `located`), first choice first."""
    source = settings.model_sources.get(card.name)
    if source is not None and expanded(source).exists():
        return [expanded(source).absolute(), settings.models_dir / card.name]
    if card.embedded:
        return [WEIGHTS / card.name]
    return [settings.models_dir / card.name]


def missing(card: ModelCard, settings: Settings) -> tuple[PartName, ...]:
    """Returns the parts that the model needs and that are not on this machine.

    The upsampler is never among them, because only a second pass needs it.
    """
    found = located(card, settings)
    return tuple(part for part in card.parts if part != "upsampler" and part not in found)


def adapters(card: ModelCard, settings: Settings) -> dict[str, Path]:
    """Returns the files of the model's own adapters that are on this machine, by the adapters' names."""
    homes = _homes(card, settings)
    found: dict[str, Path] = {}
    for name, published in card.loras.items():
        places = [home / LORAS / f"{name}.safetensors" for home in homes]
        if published is not None:
            places += _places(published, homes, settings)
        place = next((place for place in places if place.is_file()), None)
        if place is not None:
            found[name] = place
    return found


def adapter(card: ModelCard, name: str, settings: Settings, *, field: Loc) -> Path:
    """Returns the file of one of the model's own adapters.

    name: a key of `card.loras`, such as `distill` or `camera_static`.
    field: the path of the request's field that named the adapter, for the error.
    Raises `NotSupported` if the model has no such adapter, or if its file is not on this machine.
    """
    found = adapters(card, settings)
    if name not in found:
        if card.loras.get(name) is not None:
            remedy = f"is not on this machine; fetch it with `longtake models pull {card.name}`"
        else:
            remedy = f"is none of {card.name}, which has {', '.join(found) or 'no adapters'}"
        raise NotSupported(f"The adapter {name[:100]} {remedy}.", loc=field, value=name, ctx={"supported": list(found)})
    return found[name]
