"""Decodes what LTX-2 has sampled: video latents become frames, audio tokens become sound."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from longtake.families.ltx2.audio import decode_sound
from longtake.families.ltx2.model import LTX2Model
from longtake.families.ltx2.plan import LTX2Plan
from longtake.media.formats import SOUND_RATE
from longtake.media.pixels import as_rgb
from longtake.media.planes import RGBFrames
from longtake.media.sound import CROSS_FADE_S, MAX_LAG_S, Samples, num_samples
from longtake.plans import latent_length
from longtake.sampling.vae import Latents, Statistics, cropped_from_canvas, decode, decode_frames
from longtake.video import OnProgress, Progress, in_window

SPARE_SAMPLES = round((MAX_LAG_S + CROSS_FADE_S) * SOUND_RATE)
"""The number of extra samples by which a clip's sound is made longer than its frames, if the model's sound has that
many.

Aligning and cross-fading the clip's sound with the sound that it continues may use up these samples. They are after the
last frame in a forward extension, and before the first frame in a backward one.
"""

NEIGHBOUR_LATENTS = 2
"""The number of latent frames that are decoded before and after the wanted ones, because each decoded frame also
depends on its neighbours in time."""


@dataclass(frozen=True)
class WindowDecoder:
    """Decodes the sampled windows of one plan to frames and sound.

    `model`: the loaded model, which has the decoders of video and sound.
    `statistics`: the mean and the standard deviation with which the video latents are normalised.
    `on_progress`: the callback that receives the progress of decoding.
    """

    model: LTX2Model
    plan: LTX2Plan
    statistics: Statistics
    on_progress: OnProgress

    def in_window(self, window: int, windows: int) -> "WindowDecoder":
        """Returns a copy of the decoder whose progress reports name window `window` (from 1) of `windows` windows."""
        return replace(self, on_progress=in_window(self.on_progress, window, windows))

    def frames(self, latent: Tensor, first_frame: int, last_frame: int) -> Iterator[Tensor]:
        """Yields the frames from `first_frame` to before `last_frame` of a window, in chunks [t, 3, H, W] in 0..1.

        The frames are numbered from 0 at the window's start. They have the output's size.

        `latent`: all video latents of the window as the sampler returns them, normalised: [1, C, F, H, W].
        """
        final = Latents(self.statistics.unnormalise(latent), last=True)
        chunks = decode_frames(
            self.model.vae, iter([final]), first_frame, last_frame, timestep=0, on_progress=self.on_progress
        )
        for chunk in chunks:
            yield cropped_from_canvas(chunk, self.plan.canvases[-1], self.plan.size)

    def few_frames(self, latent: Tensor, first_frame: int, last_frame: int) -> Tensor:
        """Returns the frames from `first_frame` to before `last_frame` of a window as one tensor [t, 3, H, W] in 0..1.

        The frames are numbered from 0 at the window's start. They have the output's size. Only the latents near them
        are decoded, so the pixels may differ slightly from those that `frames` yields.

        `latent`: all video latents of the window as the sampler returns them, normalised: [1, C, F, H, W].
        """
        temporal = self.model.card.temporal_compression
        first = max(0, first_frame // temporal - NEIGHBOUR_LATENTS)
        last = latent_length(last_frame, temporal) + 1 + NEIGHBOUR_LATENTS
        frames = decode(self.model.vae, self.statistics.unnormalise(latent[:, :, first:last]), 0)
        start = first_frame - first * temporal
        wanted = frames[start : start + last_frame - first_frame]
        return cropped_from_canvas(wanted, self.plan.canvases[-1], self.plan.size)

    def sound(self, tokens: Tensor | None, first_frame: int, last_frame: int) -> Samples | None:
        """Returns the sound of the frames from `first_frame` to before `last_frame` of a window.

        It is [2, n] at 48 kHz (SOUND_RATE). The frames are numbered from 0 at the window's start.

        `tokens`: all audio tokens of the window as the sampler returns them, [1, T, C]. If they are None, the result is
            None.

        The sound may be up to 25 ms longer than the frames (see `SPARE_SAMPLES`).
        """
        if tokens is None:
            return None
        self.on_progress(Progress("sound", 0, 1))
        first, last = (num_samples(frame, self.plan.rate) for frame in (first_frame, last_frame))
        if self.plan.source_last:
            first = max(0, first - SPARE_SAMPLES)
        else:
            last += SPARE_SAMPLES
        return decode_sound(self.model.audio_vae, self.model.vocoder, tokens, last)[:, first:]


class TailRecorder:
    """An iterable that yields chunks of frames unchanged, and keeps a copy of the last frames that it has yielded.

    The arguments:
    `chunks`: the chunks to yield, [t, 3, H, W] in 0..1 each. Empty ones are left out.
    `before`: the frames that play before the first chunk, [T, H, W, 3] uint8.
    `count`: the number of frames to keep, at least 1.

    The attribute `tail` is the copy, [t, H, W, 3] uint8. Before the iteration it is `before`. After each chunk it has
    the last `count` frames up to now, or all of them if they are fewer. The frames in `before` are included.
    """

    def __init__(self, chunks: Iterator[Tensor], before: RGBFrames, count: int) -> None:
        self.chunks, self.tail, self.count = chunks, before, count

    def __iter__(self) -> Iterator[Tensor]:
        for chunk in self.chunks:
            self.tail = np.concatenate([self.tail, as_rgb(chunk[-self.count :])])[-self.count :]
            if len(chunk):
                yield chunk
