"""Builds the conditioning of a window of LTX-2: its context's video and sound, and the end image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from longtake.families.family import Context
from longtake.families.ltx2.audio import encode_sound
from longtake.families.ltx2.model import LTX2Model
from longtake.families.ltx2.plan import LTX2Plan
from longtake.families.ltx2.tracks import Keyframe, PlacedLatents, Track, audio_track, video_track
from longtake.families.ltx2.windows import Window
from longtake.media.formats import SOUND_RATE
from longtake.media.planes import RGBFrames
from longtake.media.sound import Samples, num_samples
from longtake.models.audiovisual import Stream
from longtake.plans import Size, latent_length
from longtake.sampling.positions import Grid, audio_before, audio_bounds, audio_from, audio_latents, to_latent
from longtake.sampling.preview import LazyDecoder, lazy_decoder
from longtake.sampling.vae import encode_clip, padded_to_canvas

HISTORY_FRAMES = 25
"""The largest number of extra frames, 8k+1, that are encoded before the context if a video is extended backward.

The VAE's encoder is causal: how it encodes the context depends on the frames before it. In a backward extension these
are the new frames, which are not made yet. So the context's own frames, mirrored in time, are encoded instead. The
latents of these extra frames are dropped.
"""


@dataclass(frozen=True)
class WindowConditioning:
    """The conditioning of one window: the context's frames, their sound and the end image, as tokens.

    A `Track` has the tokens of the whole window for video or for audio: the given values, how strongly each token keeps
    its given value, and the positions.

    `video`: the video track of each pass.
    `shapes`: the shape [1, C, F, H, W] of the window's video latents in each pass.
    `audio`: the audio track of the first pass; None if the plan makes no sound. `tracks` returns that of a later pass.
    `preview_decoders`: for each pass, the decoder of its previews, fitted to the context; None if the pass has no
        context.
    """

    video: Sequence[Track]
    shapes: Sequence[tuple[int, ...]]
    audio: Track | None
    preview_decoders: Sequence[LazyDecoder | None] = ()

    def tracks(self, pass_number: int) -> dict[Stream, Track]:
        """Returns the tracks of pass `pass_number` (from 0) by modality: `video`, and `audio` if there is sound.

        - The video track has the context in every pass.
        - The audio track of the first pass has the context's sound.
        - In the audio track of a later pass no token is kept: all are noised and denoised again. `sample_window`
          discards the audio of that pass and returns the first pass's audio.
        """
        tracks: dict[Stream, Track] = {"video": self.video[pass_number]}
        if self.audio is not None:
            mask = self.audio.mask if pass_number == 0 else torch.ones_like(self.audio.mask)
            tracks["audio"] = Track(self.audio.clean, mask, self.audio.bounds)
        return tracks

    def latent(self, pass_number: int, tokens: Tensor) -> Tensor:
        """Returns the video tokens [1, n, C] of pass `pass_number` (from 0) as latents [1, C, F, H, W].

        The tokens of the end image are left out. They are extra tokens at the end of `tokens`, and belong to no frame.
        """
        return to_latent(self.video[pass_number].result(tokens), tuple(self.shapes[pass_number]))


def window_conditioning(model: LTX2Model, plan: LTX2Plan, number: int, context: Context) -> WindowConditioning:
    """Returns the conditioning of one window of the plan: the tokens of its video for each pass, and of its audio.

    `number`: the window's number, from 0.
    `context`: the frames that the window continues, and their sound. In the last window it may also have an end image;
        in every other window the end image must be None.
    """
    window, (strength, audio_strength) = plan.windows[number], plan.context_strengths(number)
    passes = [video_conditioning(model, plan, window, context, strength, canvas) for canvas in plan.canvases]
    return WindowConditioning(
        video=[track for track, _ in passes],
        shapes=[latent_shape(model, window, canvas) for canvas in plan.canvases],
        audio=audio_conditioning(model, plan, window, context.sound, audio_strength) if plan.sound else None,
        preview_decoders=[decoder for _, decoder in passes],
    )


def latent_shape(model: LTX2Model, window: Window, canvas: Size) -> tuple[int, int, int, int, int]:
    """Returns the shape [1, C, F, H, W] of the video latents of a window at the frame size `canvas`.

    `canvas`: (width, height) in pixels.
    """
    card = model.card
    frames = latent_length(window.sampled_frames, card.temporal_compression)
    width, height = (side // card.spatial_compression for side in canvas)
    return 1, model.vae.config.latent_channels, frames, height, width


def video_conditioning(
    model: LTX2Model, plan: LTX2Plan, window: Window, context: Context, strength: float, canvas: Size
) -> tuple[Track, LazyDecoder | None]:
    """Returns (track, decoder) for one pass over a window.

    track: the tokens of the window's video, with the context and the end image in place.
    decoder: the decoder of the pass's previews, fitted to the context; None without a context.

    `context`: has the frames that the window continues, and the end image if the plan has one.
    `strength`: how strongly the context's frames are kept, 0 (ignored) to 1 (unchanged).
    `canvas`: (width, height) in pixels of the frames that the pass samples.

    The context is at the window's start (`forward`: the video is extended at its end) or at its end (`backward`: it is
    extended at its start). If `strength` is 0, it is left out.

    The end image:
    - It is added as extra tokens (a `Keyframe`) at the position of the last new frame (forward) or of the first new
      frame (backward).
    - If this frame is the window's first one, the image replaces the window's first latent, which covers one frame.
    - If the plan's `end_image_strength` is 0, the image is left out.
    """
    grid = Grid(model.card.temporal_compression, model.card.spatial_compression, plan.rate)

    def padded(frames: RGBFrames) -> RGBFrames:
        return padded_to_canvas(frames, plan.canvases[-1])

    placed: list[PlacedLatents] = []
    decoder: LazyDecoder | None = None
    before = window.context_start(plan.direction)
    if strength and window.context_frames:
        # A backward context is extended by its own frames in reverse order. Those before it are for the encoder, which
        # also needs earlier frames; their latents are dropped. Those after it fill its last latent.
        history = min(before, HISTORY_FRAMES)
        after = window.sampled_frames - before - window.context_frames if before else 0
        frames = padded(np.pad(context.frames, ((history, after), (0, 0), (0, 0), (0, 0)), mode="reflect"))
        encoded = encode_clip(model.vae, frames, canvas, model.device)
        decoder = lazy_decoder(encoded, frames)
        latent = encoded[:, :, latent_length(history, grid.temporal) if history else 0 :]
        index = latent_length(before, grid.temporal) if before else 0
        placed.append(PlacedLatents(latent, index, strength))
    keyframe = None
    if context.end_image is not None and plan.end_image_strength:
        image = encode_clip(model.vae, padded(context.end_image[None]), canvas, model.device)
        at = before - window.new_frames if before else window.context_frames + window.new_frames - 1
        if at:
            keyframe = Keyframe(image, at, plan.end_image_strength)
        else:
            placed.append(PlacedLatents(image, 0, plan.end_image_strength))
    return video_track(grid, latent_shape(model, window, canvas), placed, keyframe, device=model.device), decoder


def new_latents(plan: LTX2Plan, window: Window, temporal: int) -> range:
    """Returns the numbers (from 0) of the latent frames that are generated in a window. These are all except those of
    its context.

    They cover the new frames, and spare frames, which only make the window's number of frames 8k+1 and are cut off.

    `temporal`: the number of frames that a latent frame covers.
    """
    if plan.direction == "backward":
        return range(latent_length(window.context_start(plan.direction), temporal))
    return range(latent_length(window.context_frames, temporal), latent_length(window.sampled_frames, temporal))


def audio_conditioning(
    model: LTX2Model, plan: LTX2Plan, window: Window, sound: Samples | None, strength: float
) -> Track:
    """Returns the audio track (the audio tokens) of a window: the context's sound is kept, and the rest is generated.

    `sound`: the context's sound, [2, n] at 48 kHz (SOUND_RATE), or None.
    `strength`: how strongly the context's sound is kept, 0 (ignored) to 1 (unchanged).

    An audio latent is kept only if it lies wholly within the context's time. If there is no sound or no context, or if
    `strength` is 0, all audio latents are generated.
    """
    count = audio_latents(window.sampled_frames, plan.rate)
    clean = torch.zeros(1, count, model.transformer.config.audio_in_channels, device=model.device)
    if sound is None or not strength or not window.context_frames:
        return audio_track(clean, torch.zeros(count, dtype=torch.bool), 0, audio_bounds(count))
    before = window.context_start(plan.direction)
    is_context = audio_before(count, (before + window.context_frames) / plan.rate)
    if plan.direction == "backward":
        is_context &= audio_from(count, before / plan.rate)
        # The encoder also needs sound for the time before the context. It gets the same sound, reversed.
        sound = np.pad(sound, ((0, 0), (num_samples(before, plan.rate), 0)), mode="symmetric")
    tokens = encode_sound(model.audio_vae, sound, SOUND_RATE, model.device)[:, :count]
    clean[:, : tokens.shape[1]] = tokens
    return audio_track(clean, is_context, strength, audio_bounds(count))
