"""Loads the model, and encodes, samples and decodes many clips at once, for training and evaluation."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLLTX2Audio, AutoencoderKLLTX2Video, LTX2VideoTransformer3DModel
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from diffusers.pipelines.ltx2.vocoder import LTX2VocoderWithBWE
from torch import nn
from transformers import Gemma3ForCausalLM

from longtake.families.ltx2 import audio as product
from longtake.sampling.schedules import ltx2
from recipes.tiny import configs as first
from recipes.tiny import sampler as first_sampler
from recipes.tiny_av import adapters, configs, text
from recipes.tiny_av.adapters import Adapter
from recipes.tiny_av.forward import Forward, Modality
from recipes.tiny_av.sound_configs import FULL_RATE
from recipes.tiny_av.windows import Clean, audio_coords, audio_count, inside, spans, video_coords

BATCH = 16
STEPS = 15
"""The endpoint's default number of steps, with the noise levels of the model's own schedule."""
SECOND_PASS = (0.909375, 0.725, 0.421875, 0.0)
"""Noise levels of the pass at twice the size."""


@dataclass(frozen=True)
class Family:
    """The model's parts, in fp32 and for evaluation only. `text` holds `text_encoder` and `connectors`."""

    vae: Any
    transformer: Any
    text: nn.ModuleDict
    audio_vae: Any
    vocoder: Any
    upsampler: Any
    adapters: Mapping[str, Adapter] = field(default_factory=dict)

    @property
    def mean(self) -> torch.Tensor:
        """Mean of each channel of the video latents, `[1, C, 1, 1, 1]`."""
        value: torch.Tensor = self.vae.latents_mean.view(1, -1, 1, 1, 1)
        return value

    @property
    def std(self) -> torch.Tensor:
        """Standard deviation of each channel of the video latents, `[1, C, 1, 1, 1]`."""
        value: torch.Tensor = self.vae.latents_std.view(1, -1, 1, 1, 1)
        return value


def load(folder: Path = configs.WEIGHTS) -> Family:
    """Reads the parts from a folder."""
    single: dict[str, Any] = {"torch_dtype": torch.float32}
    gemma: Any = Gemma3ForCausalLM.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    connectors: Any = LTX2TextConnectors.from_pretrained(folder / "connectors", **single)
    transformer: Any = LTX2VideoTransformer3DModel.from_pretrained(folder / "transformer", **single)
    return Family(
        vae=AutoencoderKLLTX2Video.from_pretrained(folder / "vae", **single).eval(),
        transformer=transformer.eval(),
        text=nn.ModuleDict({"text_encoder": gemma.eval(), "connectors": connectors.eval()}),
        audio_vae=AutoencoderKLLTX2Audio.from_pretrained(folder / "audio_vae", **single).eval(),
        vocoder=LTX2VocoderWithBWE.from_pretrained(folder / "vocoder", **single).eval(),
        upsampler=first_sampler.load().upsampler,
        adapters={file.stem: adapters.read(file, transformer) for file in (folder / "loras").glob("*.safetensors")},
    )


@torch.no_grad()
def adapted(family: Family, name: str, strength: float = 1.0) -> Family:
    """Returns the model with `strength` times the adapter `name` merged into the transformer's weights."""
    model = deepcopy(family.transformer)
    weights = [dict(block.named_parameters()) for block in model.transformer_blocks]
    for now, more in zip(weights, family.adapters[name].added(weights, strength), strict=True):
        for key, value in more.items():
            now[key].copy_(value)
    return replace(family, transformer=model)


@torch.no_grad()
def encode(family: Family, clips: torch.Tensor) -> torch.Tensor:
    """Encodes clips `[B, 3, T, H, W]` in [-1, 1]. Returns tokens `[B, F, S, C]`, which are normalised latents."""
    parts = [family.vae.encode(part).latent_dist.mode() for part in clips.split(BATCH)]
    tokens: torch.Tensor = ((torch.cat(parts) - family.mean) / family.std).permute(0, 2, 3, 4, 1).flatten(2, 3)
    return tokens


@torch.no_grad()
def decode(family: Family, tokens: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Decodes tokens `[B, F, S, C]`, where S = `rows` * `columns`. Returns clips `[B, 3, T, H, W]` in [-1, 1]."""
    latents = tokens.unflatten(2, (rows, columns)).permute(0, 4, 1, 2, 3)
    parts = [family.vae.decode(part * family.std + family.mean).sample for part in latents.split(BATCH)]
    return torch.cat(parts).clamp(-1, 1)


@torch.no_grad()
def doubled(family: Family, tokens: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Upsamples tokens `[B, F, S, C]` to `[B, F, 4 S, C]`, at twice the height and width. `size` is their (rows,
    columns) before."""
    latents = tokens.unflatten(2, size).permute(0, 4, 1, 2, 3) * family.std + family.mean
    made: torch.Tensor = (family.upsampler(latents) - family.mean) / family.std
    return made.permute(0, 2, 3, 4, 1).flatten(2, 3)


@torch.no_grad()
def hear(family: Family, waves: Sequence[torch.Tensor], sound_rate: int, count: int) -> torch.Tensor:
    """Encodes stereo waves `[2, n]` at `sound_rate` Hz. Returns audio tokens `[B, count, 1, C]`, which are 0 after a
    wave's end."""
    rows = torch.zeros(len(waves), count, 1, configs.TRANSFORMER["audio_in_channels"])
    for row, wave in zip(rows, waves, strict=True):
        tokens = product.encode_sound(family.audio_vae, wave.numpy(), sound_rate)[0, :count]
        row[: len(tokens), 0] = tokens
    return rows


@torch.no_grad()
def speak(family: Family, tokens: torch.Tensor, seconds: float) -> list[torch.Tensor]:
    """Decodes audio tokens `[B, T, 1, C]`. Returns stereo waves `[2, n]` at `FULL_RATE` Hz that last `seconds`."""
    length = round(seconds * FULL_RATE)
    rows = [product.decode_sound(family.audio_vae, family.vocoder, row[None, :, 0], length) for row in tokens]
    return [torch.from_numpy(row) for row in rows]


@dataclass(frozen=True)
class Window:
    """A batch of windows to sample.

    picture, sound: the tokens of video and sound, and which of them are known.
    places: the start and end of each video token in (seconds, y px, x px), `[1, 3, F * S, 2]`.
    times: the start and end of each audio token in seconds, `[1, 1, T, 2]`.
    count: the number of latent frames of the result. `picture` may have one more, an end image.
    """

    picture: Clean
    sound: Clean
    places: torch.Tensor
    times: torch.Tensor
    count: int


def window(
    lead: torch.Tensor,
    count: int,
    size: tuple[int, int],
    sound: torch.Tensor | None = None,
    fps: float = first.FPS,
    end: torch.Tensor | None = None,
    ends_with: bool = False,
) -> Window:
    """Returns windows of `count` latent frames of `size` (rows, columns).

    lead: the known video tokens, `[B, f, S, C]`. They are at the windows' start; with `ends_with`, at the end.
    sound: the audio tokens of the whole windows, `[B, T, 1, C]`. Only the part during `lead` is known. None: no sound
        is known.
    end: the tokens of an image for the last frame, `[B, 1, S, C]`; None for no end image.
    """
    batch, num_known, cells, channels = lead.shape
    frames = first.TEMPORAL * (count - 1) + 1
    tokens, known = torch.zeros(batch, count, cells, channels), torch.zeros(batch, count, dtype=torch.bool)
    place = slice(count - num_known, None) if ends_with else slice(0, num_known)
    tokens[:, place], known[:, place] = lead, True
    bounds = spans(count)
    edge = (bounds[place][0][0] / fps, bounds[place][-1][1] / fps) if num_known else (0.0, 0.0)
    if end is not None:
        tokens, known = torch.cat([tokens, end], 1), torch.cat([known, torch.ones(batch, 1, dtype=torch.bool)], 1)
        bounds = [*bounds, (frames - 1.0, float(frames))]
    length = audio_count(frames, fps)
    heard = inside(length, *edge).expand(batch, -1)
    if sound is None:
        sound, heard = torch.zeros(batch, length, 1, configs.TRANSFORMER["audio_in_channels"]), torch.zeros_like(heard)
    return Window(
        Clean(tokens, torch.ones(tokens.shape[:3]), known),
        Clean(sound, torch.ones(sound.shape[:3]), heard),
        video_coords(bounds, *size, fps),
        audio_coords(length),
        count,
    )


@dataclass(frozen=True)
class Way:
    """Options of sampling.

    levels: noise levels down to 0; by default those of the model's own schedule.
    linked: False if video and sound do not attend to each other.
    cfg: the scale of guidance away from the empty prompt; 1 is no guidance.
    """

    levels: tuple[float, ...] = tuple(ltx2(STEPS).tolist())
    linked: bool = True
    cfg: float = 1.0


Tokens = tuple[torch.Tensor, torch.Tensor]
"""Tokens of video and sound, `[B, F, S, C]` each."""


@torch.no_grad()
def sample(
    family: Family,
    known: Window,
    prompts: Sequence[str],
    way: Way = Way(),
    seed: int = 0,
    init: torch.Tensor | None = None,
) -> Tokens:
    """Returns the tokens of video and sound of windows, sampled with Euler steps.

    seed: the noise of a clip depends on this seed and on the clip's number in the batch.
    init: tokens of videos that the steps refine; None starts from noise.
    """
    forward = Forward(family.transformer, compiled=False)
    made = []
    for start in range(0, len(prompts), BATCH):
        rows = slice(start, start + BATCH)
        part = replace(known, picture=known.picture.rows(rows), sound=known.sound.rows(rows))
        first_part = None if init is None else init[rows]
        made.append(_sampled(family, forward, part, prompts[rows], way, seed + start, first_part))
    video, audio = (torch.cat(parts) for parts in zip(*made, strict=True))
    return video[:, : known.count], audio


def _sampled(
    family: Family,
    forward: Forward,
    known: Window,
    prompts: Sequence[str],
    way: Way,
    seed: int,
    init: torch.Tensor | None,
) -> Tokens:
    words = text.tokenizer()
    texts = text.encode(family.text, *text.tokens(words, prompts))
    empty = text.encode(family.text, *text.tokens(words, [""] * len(prompts))) if way.cfg != 1 else None
    streams = (known.picture, known.sound)
    x = _noise([stream.tokens.shape for stream in streams], seed)
    if init is not None:
        x[0][:, : init.shape[1]] = torch.lerp(init, x[0][:, : init.shape[1]], way.levels[0])
    x = [torch.where(s.known[..., None, None], s.tokens, n) for s, n in zip(streams, x, strict=True)]
    for level, lower in zip(way.levels[:-1], way.levels[1:], strict=True):
        velocity = _velocities(forward, known, x, level, texts, way.linked)
        if empty is not None:
            other = _velocities(forward, known, x, level, empty, way.linked)
            velocity = torch.lerp(other[0], velocity[0], way.cfg), torch.lerp(other[1], velocity[1], way.cfg)
        x = [
            torch.where(s.known[..., None, None], s.tokens, value + (lower - level) * v)
            for s, value, v in zip(streams, x, velocity, strict=True)
        ]
    return x[0], x[1]


def _velocities(
    forward: Forward, known: Window, x: Sequence[torch.Tensor], level: float, texts: Tokens, linked: bool
) -> Tokens:
    every = torch.full((len(x[0]),), level)
    video, audio = (
        Modality(value, torch.where(stream.known, 0.0, level), every, words, coords)
        for value, stream, words, coords in zip(
            x, (known.picture, known.sound), texts, (known.places, known.times), strict=True
        )
    )
    return forward(video, audio, torch.full((len(x[0]),), float(linked)))


def _noise(shapes: Sequence[torch.Size], seed: int) -> list[torch.Tensor]:
    rows = []
    for i in range(shapes[0][0]):
        dice = torch.Generator().manual_seed(seed + i)
        rows.append([torch.randn(shape[1:], generator=dice) for shape in shapes])
    return [torch.stack(column) for column in zip(*rows, strict=True)]
