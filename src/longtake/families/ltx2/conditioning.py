"""Builds the conditioning of one LTX-2 window: context video and audio at their positions, and the end image."""

import numpy as np
import torch
from torch import Tensor

from longtake.families.family import Context, Frames, Samples
from longtake.families.ltx2.audio import encode_sound
from longtake.families.ltx2.parts import LTX2Parts
from longtake.families.ltx2.plan import Extension, LTX2Plan
from longtake.families.ltx2.tracks import Held, Keyframe, Track, audio_track, video_track
from longtake.media.formats import SOUND_RATE
from longtake.media.sound import num_samples
from longtake.plans import Size, latent_length
from longtake.sampling.positions import Grid, audio_before, audio_bounds, audio_from, audio_latents
from longtake.sampling.vae import encode_clip, on_canvas

HISTORY_FRAMES = 25
"""The number of frames (8k+1) that are encoded before a context at a window's end: the encoder looks back."""


def latent_shape(models: LTX2Parts, extension: Extension, canvas: Size) -> tuple[int, int, int, int, int]:
    """[1, C, F, H, W] of a window's video latents."""
    card = models.card
    frames = latent_length(extension.take_frames, card.temporal_compression)
    width, height = (side // card.spatial_compression for side in canvas)
    return 1, models.vae.config.latent_channels, frames, height, width


def video_conditioning(
    models: LTX2Parts, plan: LTX2Plan, extension: Extension, context: Context, canvas: Size
) -> Track:
    """The picture of a window at one of the plan's canvases.

    Forward: the context as a clip at the front, the image beside the last wanted frame. Backward: the context at the
    window's end, encoded behind mirrored frames, and the image in place of the window's first latent, which is one
    frame; where the output begins later than the window, beside its first frame.
    """
    grid = Grid(models.card.temporal_compression, models.card.spatial_compression, plan.rate)

    def encoded(frames: Frames) -> Tensor:
        return encode_clip(models.vae, on_canvas(frames, plan.scales[-1]), canvas, models.device)

    held: list[Held] = []
    before = 0 if plan.direction == "forward" else extension.take_frames - extension.context_frames
    if plan.strength and extension.context_frames:
        history = min(before, HISTORY_FRAMES)
        seen = np.pad(context.frames, ((history, 0), (0, 0), (0, 0), (0, 0)), mode="reflect")
        latent = encoded(seen)[:, :, latent_length(history, grid.temporal) if history else 0 :]
        held.append(Held(latent, latent_length(before, grid.temporal) if before else 0, plan.strength))
    keyframe = None
    if context.end_image is not None:
        image, strength = encoded(context.end_image[None]), plan.end_image_strength
        far = before - extension.new_frames if before else extension.context_frames + extension.new_frames - 1
        if far:
            keyframe = Keyframe(image, far, strength)
        else:
            held.append(Held(image, 0, strength))
    return video_track(grid, latent_shape(models, extension, canvas), held, keyframe, device=models.device)


def audio_conditioning(models: LTX2Parts, plan: LTX2Plan, extension: Extension, sound: Samples | None) -> Track:
    """The sound of a window: the context's [2, n] in its place, held as far as it lies wholly within; all is free
    where there is none. Backward it is encoded behind its mirror image."""
    count = audio_latents(extension.take_frames, plan.rate)
    clean = torch.zeros(1, count, models.transformer.config.audio_in_channels, device=models.device)
    if sound is None or not plan.audio_strength or not extension.context_frames:
        return audio_track(clean, torch.zeros(count, dtype=torch.bool), 0, audio_bounds(count))
    before = extension.take_frames - extension.context_frames
    if plan.direction == "forward":
        kept = audio_before(count, extension.context_frames / plan.rate)
    else:
        kept = audio_from(count, before / plan.rate)
        sound = np.pad(sound, ((0, 0), (num_samples(before, plan.rate), 0)), mode="symmetric")
    tokens = encode_sound(models.audio_vae, sound, SOUND_RATE, models.device)[:, :count]
    clean[:, : tokens.shape[1]] = tokens
    return audio_track(clean, kept, plan.audio_strength, audio_bounds(count))
