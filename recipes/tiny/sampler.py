"""Loads the model, and encodes, samples and decodes clips for the evaluation. Sampling uses the package's functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
from diffusers.pipelines.ltx.modeling_latent_upsampler import LTXLatentUpsamplerModel
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from longtake.families.ltxv.conditioning import ConditioningItem
from longtake.families.ltxv.guidance import Guide
from longtake.families.ltxv.profiles import Guidance
from longtake.families.ltxv.sampler import PassSetup, sample
from longtake.models.registry import LTXVCard, card
from longtake.models.replicas import Replicas
from longtake.models.t5 import EncodedPrompt
from longtake.models.video_transformer import attach
from longtake.sampling.noise import seeded
from longtake.sampling.positions import Grid
from longtake.sampling.schedules import noise_levels
from recipes.tiny import configs, text

BATCH = 16


@dataclass(frozen=True)
class Family:
    """The model's parts, in fp32 and for evaluation only."""

    vae: Any
    transformer: Any
    text_encoder: Any
    tokenizer: PreTrainedTokenizerFast
    upsampler: Any | None

    @property
    def mean(self) -> torch.Tensor:
        """Mean of each latent channel, `[1, C, 1, 1, 1]`."""
        value: torch.Tensor = self.vae.latents_mean.view(1, -1, 1, 1, 1)
        return value

    @property
    def std(self) -> torch.Tensor:
        """Standard deviation of each latent channel, `[1, C, 1, 1, 1]`."""
        value: torch.Tensor = self.vae.latents_std.view(1, -1, 1, 1, 1)
        return value


def load(folder: Path = configs.WEIGHTS) -> Family:
    """Reads the parts from a folder."""
    upsampler = folder / "latent_upsampler"
    single: dict[str, Any] = {"torch_dtype": torch.float32}
    transformer = LTXVideoTransformer3DModel.from_pretrained(folder / "transformer", **single).eval()
    attach(transformer)
    return Family(
        vae=AutoencoderKLLTXVideo.from_pretrained(folder / "vae", **single).eval(),
        transformer=transformer,
        text_encoder=T5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval(),
        tokenizer=PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer"),
        upsampler=LTXLatentUpsamplerModel.from_pretrained(upsampler, **single).eval() if upsampler.exists() else None,
    )


@torch.no_grad()
def encode(family: Family, clips: torch.Tensor) -> torch.Tensor:
    """Returns normalised latents `[B, C, F, h, w]` of clips `[B, 3, T, H, W]` in [-1, 1]."""
    parts = [family.vae.encode(part).latent_dist.mode() for part in clips.split(BATCH)]
    return (torch.cat(parts) - family.mean) / family.std


@torch.no_grad()
def decode(family: Family, latents: torch.Tensor) -> torch.Tensor:
    """Returns clips in [-1, 1] of normalised latents."""
    parts = [family.vae.decode(part * family.std + family.mean).sample for part in latents.split(BATCH)]
    return torch.cat(parts).clamp(-1, 1)


@dataclass(frozen=True)
class Conditioning:
    """The known latents of a batch of windows, normalised; None where there are none.

    lead: latents at the windows' start, `[B, C, f, h, w]`.
    image: an image for the windows' last frame, `[B, C, 1, h, w]`.
    suffix: a clip at the windows' end, `[B, C, f, h, w]`.
    """

    lead: torch.Tensor | None = None
    image: torch.Tensor | None = None
    suffix: torch.Tensor | None = None

    def items(self, i: int, num_frames: int) -> list[ConditioningItem]:
        """Returns the known latents of clip `i`, placed in a window of `num_frames` frames."""
        found = [] if self.lead is None else [ConditioningItem(self.lead[i : i + 1])]
        if self.image is not None:
            found.append(ConditioningItem(self.image[i : i + 1], num_frames - 1))
        if self.suffix is not None:
            length = configs.TEMPORAL * (self.suffix.shape[2] - 1) + 1
            found.append(ConditioningItem(self.suffix[i : i + 1], num_frames - length))
        return found


def caption(family: Family, prompt: str) -> EncodedPrompt:
    """Returns a prompt encoded by the model's text encoder."""
    ids, mask = text.tokens(family.tokenizer, [prompt])
    return EncodedPrompt(family.text_encoder(ids, attention_mask=mask)[0], mask)


@torch.no_grad()
def generate(
    family: Family,
    conditioning: Conditioning,
    shape: tuple[int, int, int],
    prompts: Sequence[str],
    seed: int = 0,
    skip_initial: int = 0,
    init: torch.Tensor | None = None,
) -> torch.Tensor:
    """Samples one clip per prompt, one after the other. Returns normalised latents `[B, C, F, h, w]`.

    shape: (F, h, w).
    seed: the seed of the first clip; each further clip has the next seed.
    skip_initial: the number of first steps that are left out.
    init: latents that the steps refine; None starts from noise.
    """
    whole = (1, configs.LATENT_CHANNELS, *shape)
    return torch.cat(
        [
            sample(
                pass_setup(family, prompt, shape, skip_initial),
                whole,
                conditioning.items(i, configs.TEMPORAL * (shape[0] - 1) + 1),
                seeded(seed + i),
                init=None if init is None else init[i : i + 1],
            )
            for i, prompt in enumerate(prompts)
        ]
    )


def pass_setup(family: Family, prompt: str, shape: tuple[int, int, int], skip_initial: int = 0) -> PassSetup:
    """Returns an unguided pass over a window of `shape` = (F, h, w) latents, without its first `skip_initial` steps."""
    return PassSetup(
        guide=Guide(Replicas(family.transformer), caption(family, prompt), None, Guidance()),
        levels=noise_levels(configs.STEPS, skip_initial),
        grid=Grid(configs.TEMPORAL, configs.SPATIAL, Fraction(configs.FPS)),
        canvas=(configs.SPATIAL * shape[2], configs.SPATIAL * shape[1]),
        conditioning_noise=0.0,
    )


def extend(family: Family, clips: torch.Tensor, num_frames: int, prompts: Sequence[str], seed: int = 0) -> torch.Tensor:
    """Continues `clips` `[B, 3, T, H, W]` in [-1, 1]. Returns clips `[B, 3, num_frames, H, W]` in [-1, 1].

    The first T frames of the result are those of `clips` after encoding and decoding.
    """
    lead = encode(family, clips)
    shape = (configs.num_latents(num_frames), lead.shape[3], lead.shape[4])
    return decode(family, generate(family, Conditioning(lead=lead), shape, prompts, seed))


def extend_in_windows(
    family: Family, clips: torch.Tensor, num_frames: int, prompts: Sequence[str], seed: int = 0
) -> torch.Tensor:
    """Continues clips as `extend` does, in the windows of a request: each continues the last latents before it."""
    model = card("ltxv-tiny")
    assert isinstance(model, LTXVCard)
    known, total = encode(family, clips), configs.num_latents(num_frames)
    number = 0
    while known.shape[2] < total:
        lead = known[:, :, -model.overlap_latents :] if number else known
        count = min(configs.num_latents(model.window_frames), lead.shape[2] + total - known.shape[2])
        shape = (count, known.shape[3], known.shape[4])
        made = generate(family, Conditioning(lead=lead), shape, prompts, seed + number * len(prompts))
        known, number = torch.cat([known, made[:, :, lead.shape[2] :]], dim=2), number + 1
    return decode(family, known)


@torch.no_grad()
def upsample(family: Family, latents: torch.Tensor) -> torch.Tensor:
    """Returns normalised latents upsampled to twice the height and width. Raises ValueError without an upsampler."""
    if family.upsampler is None:
        raise ValueError("this family has no latent upsampler")
    doubled: torch.Tensor = family.upsampler(latents * family.std + family.mean)
    return (doubled - family.mean) / family.std
