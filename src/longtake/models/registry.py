"""The models by name: the facts that a plan needs, and where each part is published. Without torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from longtake.errors import NotSupported
from longtake.settings import Settings

PartName = Literal["transformer", "vae", "upsampler", "text_encoder", "tokenizer"]
PART_NAMES: tuple[PartName, ...] = get_args(PartName)

FOLDERS: Mapping[PartName, str] = {
    "transformer": "transformer",
    "vae": "vae",
    "upsampler": "latent_upsampler",
    "text_encoder": "text_encoder",
    "tokenizer": "tokenizer",
}
"""The folder of each part in diffusers layout."""

WEIGHTS = Path(__file__).parent.parent / "weights"
"""Models that ship inside the package."""


@dataclass(frozen=True)
class Published:
    """Where a part is published: in hub repository `repo`, a single checkpoint file or a folder at `path`.

    It is kept at `models_dir/<shelf>/<path>`; parts that several models share have a shelf of their own.
    """

    repo: str
    path: str
    shelf: str


@dataclass(frozen=True)
class ModelCard:
    """The facts of one model.

    native_short_side: short side of its canvas in pixels; None = the asked size.
    spatial_compression, temporal_compression: pixels and frames per latent (the first latent holds one frame).
    window_frames: most frames of one generation. Longer jobs go on in windows that share `overlap_latents` latents,
    held with `overlap_strength`, and take at most `max_context_frames` frames of the source.
    guidance: name of a guidance profile of the plan.
    conditioning_noise_scale: noise on hard-conditioned tokens, times t^2.
    decode_timestep, decode_noise_scale: what the VAE's decoder is told and given, in normalised latents.
    prompt_tokens: length of an encoded prompt.
    parts: where each part is published; None for an embedded model.
    """

    name: str
    title: str
    licence: str
    guidance: Literal["dev", "distilled", "tiny"]
    embedded: bool = False
    parts: Mapping[PartName, Published] | None = field(default=None, hash=False)
    native_short_side: int | None = None
    spatial_compression: int = 32
    temporal_compression: int = 8
    window_frames: int = 257
    overlap_latents: int = 3
    overlap_strength: float = 0.5
    max_context_frames: int = 121
    conditioning_noise_scale: float = 0.15
    decode_timestep: float = 0.05
    decode_noise_scale: float = 0.025
    prompt_tokens: int = 256


_HUB = "Lightricks/LTX-Video"
_OPEN_WEIGHTS = "LTXV Open Weights License (Lightricks): weights are fetched by you under its terms."


def _published(name: str, upscaler: str) -> Mapping[PartName, Published]:
    single = Published(_HUB, f"{name}.safetensors", name)
    return {
        "transformer": single,
        "vae": single,
        "upsampler": Published(_HUB, f"{upscaler}.safetensors", name),
        "text_encoder": Published(_HUB, "text_encoder", "ltxv-t5-xxl"),
        "tokenizer": Published(_HUB, "tokenizer", "ltxv-t5-xxl"),
    }


CARDS: Mapping[str, ModelCard] = {
    card.name: card
    for card in (
        ModelCard(
            name="ltxv-tiny",
            title="The embedded LTX-Video miniature: simple moving shapes, on any CPU",
            licence="Apache-2.0, as the package.",
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
        ModelCard(
            name="ltxv-13b-0.9.7-dev",
            title="LTX-Video 0.9.7 13B, development",
            licence=_OPEN_WEIGHTS,
            guidance="dev",
            parts=_published("ltxv-13b-0.9.7-dev", "ltxv-spatial-upscaler-0.9.7"),
        ),
        ModelCard(
            name="ltxv-13b-0.9.8-distilled",
            title="LTX-Video 0.9.8 13B, distilled",
            licence=_OPEN_WEIGHTS,
            guidance="distilled",
            parts=_published("ltxv-13b-0.9.8-distilled", "ltxv-spatial-upscaler-0.9.8"),
        ),
    )
}

_PUBLISHED_FOR: Mapping[str, tuple[str, str]] = {
    "fal-ai/ltx-video-v097/extend": ("ltxv-13b-0.9.7-dev", "ltxv-tiny"),
    "fal-ai/ltxv-13b-098-distilled/extend": ("ltxv-13b-0.9.8-distilled", "ltxv-tiny"),
}
"""Endpoint id -> its own model, and the one that stands in where that is not installed."""


def card(name: str) -> ModelCard:
    """The card of model `name`. Raises `NotSupported` with the names that there are."""
    if name not in CARDS:
        raise NotSupported(
            f"There is no model named {name[:100]!r}; the models are {', '.join(CARDS)}.",
            given=name,
            ctx={"supported": list(CARDS)},
        )
    return CARDS[name]


def located(card: ModelCard, settings: Settings) -> dict[PartName, Path]:
    """The parts of a model that are on this machine: a checkpoint file or a folder in diffusers layout for each.

    Looked for in `settings.model_sources[name]` where that is a path, then in `models_dir/<name>` (each part's folder,
    then its published file), then on the part's own shelf; the embedded model's in the package.
    """
    homes = _homes(card, settings)
    found: dict[PartName, Path] = {}
    for part in PART_NAMES:
        places = [home / FOLDERS[part] for home in homes if home.is_dir()]
        if part in ("transformer", "vae"):
            places += [home for home in homes if home.is_file()]
        if card.parts is not None:
            published = card.parts[part]
            places += [home / published.path for home in homes]
            places.append(settings.models_dir / published.shelf / published.path)
        place = next((place for place in places if place.exists()), None)
        if place is not None:
            found[part] = place
    return found


def _homes(card: ModelCard, settings: Settings) -> list[Path]:
    source = settings.model_sources.get(card.name)
    if source is not None and Path(source).expanduser().exists():
        return [Path(source).expanduser().absolute(), settings.models_dir / card.name]
    if card.embedded:
        return [WEIGHTS / card.name]
    return [settings.models_dir / card.name]


def missing(card: ModelCard, settings: Settings) -> tuple[PartName, ...]:
    """The parts that generation needs and that are not on this machine; the upsampler is only for the detail pass."""
    found = located(card, settings)
    return tuple(part for part in PART_NAMES if part != "upsampler" and part not in found)


def default_model(endpoint: str, settings: Settings) -> ModelCard:
    """The model of an endpoint: its published one where its files are here, otherwise the embedded miniature."""
    if endpoint not in _PUBLISHED_FOR:
        raise NotSupported(
            f"There is no endpoint {endpoint[:100]!r}; the endpoints are {', '.join(_PUBLISHED_FOR)}.",
            given=endpoint,
            ctx={"supported": list(_PUBLISHED_FOR)},
        )
    own, stand_in = (card(name) for name in _PUBLISHED_FOR[endpoint])
    return stand_in if missing(own, settings) else own
