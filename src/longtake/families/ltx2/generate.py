"""The recipe of LTX-2.3: turns a plan, and the source frames and sound to continue, into new frames and their sound.

Read from the top: `generate` processes the windows one after the other, forward or backward. The conditioning of a
window is in `conditioning.py`, its sampling in `sampler.py`, and its decoding in `decoding.py`.
"""

from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import prod

import numpy as np
import torch
from torch import Tensor

from longtake.families.family import Context, GeneratedClip, PlanRun
from longtake.families.ltx2.audio import decode_sound, encode_sound
from longtake.families.ltx2.conditioning import latent_shape, new_latents, window_conditioning
from longtake.families.ltx2.decoding import SPARE_SAMPLES, TailRecorder, WindowDecoder
from longtake.families.ltx2.guidance import UNGUIDED, Guide, predict
from longtake.families.ltx2.model import LTX2Model, few_tracks, load
from longtake.families.ltx2.options import GuidanceScales
from longtake.families.ltx2.plan import LTX2Plan
from longtake.families.ltx2.sampler import PassSetup, Sampler, Setup, sample_window
from longtake.media.formats import SOUND_RATE
from longtake.media.pixels import as_rgb
from longtake.media.planes import RGBFrames
from longtake.media.sound import Samples, amplified, loudness, num_samples
from longtake.models.audiovisual import Stream
from longtake.models.gemma import GemmaTextEncoder
from longtake.models.memory import predictions_at_once
from longtake.models.streaming import is_streamed
from longtake.models.writing import UNRECORDED
from longtake.prompts import expand as expand_prompt
from longtake.sampling.preview import PreviewedFrames, preview_callback
from longtake.sampling.schedules import SECOND_PASS_LEVELS, sigmas
from longtake.sampling.vae import Statistics, round_trip
from longtake.sampling.windows import Loop, OnEstimate, Tensors, WindowRun, sample_windows
from longtake.video import Progress

__all__ = ["expand", "generate", "load", "warm_up"]

LTX2Run = PlanRun[LTX2Plan, LTX2Model]


def expand(run: LTX2Run, frame: RGBFrames) -> tuple[str, str | None]:
    """Returns (prompt, note), as `Recipe.expand` says.

    The first of these cases that applies:
    - If the plan does not ask for expansion, its prompt is returned unchanged, without a note.
    - If the prompt is empty, the LTX-2 model's text encoder writes one from `frame`, provided that it can write text
      and see images. Otherwise the prompt stays empty, and the note says why.
    - If the settings name a server with a language model, that model rewrites the prompt without seeing `frame`. A
      prompt of 120 or more words, or 10,000 or more characters, is returned unchanged, and so is any prompt for which
      the server returns an empty text. The note says why.
    - If the text encoder can write text, it rewrites the prompt. It looks at `frame` if it can see images.
    - Otherwise the prompt is returned unchanged, and the note says why.

    `run`: the plan with the loaded model and the settings.
    `frame`: the source's frame next to the new frames, [H, W, 3].

    Raises ExpansionFailed if the server cannot be reached or sends an unusable answer.
    """
    plan, text = run.plan, run.model.text
    if not plan.expand_prompt:
        return plan.prompt, None
    if not plan.prompt:
        if text.can_write and text.can_see:
            return text.expand("", frame, plan.seed, run.on_progress), None
        return "", "There is no prompt, and no language model here that sees: the new part follows the source alone."
    if run.settings.expansion_url is None and text.can_write:
        return text.expand(plan.prompt, frame, plan.seed, run.on_progress), None
    return expand_prompt(plan.prompt, run.settings, partial(run.on_progress, Progress("prompt", 0, 1)))


def generate(run: LTX2Run, prompt: str, context: Context) -> Iterator[GeneratedClip]:
    """Returns an iterator over the clips of the new frames, one for each window, in playing order.

    - Forward, each window is sampled when the caller takes its clip.
    - Backward, the window that is sampled first plays last, so all windows are sampled before this function returns.
    - In both cases a clip's frames are decoded while the caller reads them.

    `run`: the plan with the loaded model.
    `prompt`: the prompt to generate with, after expansion.
    `context`: the source frames and the sound that the first window continues, and the end image.

    A later window continues the frames and the sound of the window that was sampled before it. They are decoded and
    encoded again, because a window's first latent must cover one frame, and a latent from the middle of a window covers
    more.
    """
    plan = run.plan
    run.model.replicas.log_idle(len(plan.predictions))
    setup = make_setup(run, prompt)
    decoder = WindowDecoder(run.model, plan, setup.statistics, run.on_progress)
    windows = _Windows(run, setup, decoder, context.sound, context.end_image)
    loop = Loop.of(plan, run.resume, run.on_progress, run.model.device)
    start = _WindowContext(context.frames, context.sound)
    if plan.source_last:
        return reversed(list(sample_windows(loop, start, windows.sample, windows.backward)))
    return sample_windows(loop, start, windows.sample, windows.forward)


def make_setup(run: LTX2Run, prompt: str) -> Setup:
    """Returns the set-up with which all windows of the plan are sampled. `prompt` is encoded here, and so is the plan's
    negative prompt if guidance needs it."""
    plan, model = run.plan, run.model
    positive = model.text.encode(prompt)
    negative = model.text.encode(plan.negative_prompt) if "negative" in plan.predictions else None
    model.text.release()
    longest = max(plan.windows, key=lambda window: window.sampled_frames)
    num_tokens = prod(latent_shape(model, longest, plan.canvases[0])[2:])
    at_once = predictions_at_once(model.transformer, num_tokens, model.device)
    scales: dict[Stream, GuidanceScales] = {"video": plan.video, "audio": plan.audio}
    first = PassSetup(
        Guide(model.replicas, positive, negative, scales, plan.stg_blocks, at_once),
        Sampler(sigmas(plan.scheduler, plan.steps), plan.gamma, plan.eta),
        plan.acceleration,
    )
    second = PassSetup(
        Guide(model.replicas, positive, None, dict.fromkeys(scales, UNGUIDED), plan.stg_blocks, at_once),
        Sampler(torch.tensor(SECOND_PASS_LEVELS)),
    )
    statistics = Statistics.of(model.vae, model.device)
    return Setup((first, second)[: plan.num_passes], model.upsampler, statistics, run.set_pass)


def warm_up(run: LTX2Run) -> None:
    """Compiles all code that requests with such a plan need, whatever their sizes are: encodes the plan's prompts, and
    makes one prediction in each pass for a few tokens. Also writes a few words if the plan's prompt is expanded, and
    encodes and decodes a few frames and a little sound.

    `run`: the plan with the loaded model and its adapters.
    """
    plan, model, transformer = run.plan, run.model, run.model.transformer
    writes = plan.expand_prompt and run.settings.expansion_url is None and model.text.can_write
    if writes and not is_streamed(model.text.encoder):  # streaming takes longer than what libraries do at first
        _write_few_tokens(model.text, plan.prompt)
    setup = make_setup(run, plan.prompt)
    round_trip(model.vae, setup.upsampler if plan.num_passes > 1 else None, model.device, 0)
    both = few_tracks(transformer, model.device)
    if plan.sound:
        encode_sound(model.audio_vae, np.zeros((2, SOUND_RATE), np.float32), SOUND_RATE, model.device)
        decode_sound(model.audio_vae, model.vocoder, both["audio"].clean)
    tracks = {stream: track for stream, track in both.items() if plan.sound or stream == "video"}
    tokens = {stream: track.clean for stream, track in tracks.items()}
    for number, one in enumerate(setup.passes):
        run.set_pass(number)
        predict(one.guide, tracks, one.guide.positioned(tracks), tokens, 0.5)


FEW_TOKENS = UNRECORDED + 2
"""The number of tokens that are written before the first request: so many that the work for a token is recorded as a
CUDA graph and repeated."""


def _write_few_tokens(text: GemmaTextEncoder, prompt: str) -> None:
    """Writes the beginning of an expanded prompt. On a GPU, libraries prepare themselves at their first use."""

    class Enough(Exception):
        pass

    def on_progress(progress: Progress) -> None:
        if progress.step > FEW_TOKENS:
            raise Enough

    with suppress(Enough):
        text.expand(prompt, np.zeros((64, 64, 3), np.uint8), 0, on_progress)


@dataclass(frozen=True)
class _WindowContext:
    """The frames and the sound that a window continues.

    `frames`: [T, H, W, 3]. If the window needs fewer, it uses those nearest to its new frames.
    `sound`: the sound of the frames, [2, n] at 48 kHz (SOUND_RATE), or None if there is none.
    `neighbour`: the frame of `frames` that is next to the new frames, [H, W, 3], if the model generated it; None if it
        is a source frame.
    """

    frames: RGBFrames
    sound: Samples | None
    neighbour: RGBFrames | None = None


@dataclass(frozen=True)
class _Windows:
    """The functions that `sample_windows` calls for each window of a plan.

    - `sample` samples the window.
    - `forward` decodes the sampled window, if the new frames come after the source.
    - `backward` decodes it, if they come before the source.

    `run`: the plan with the loaded model.
    `setup`: the set-up with which all windows are sampled.
    `decoder`: decodes video latents to frames and audio tokens to sound.
    `source_sound`: the sound of the source frames that the first window continues, [2, n]; None if there is none.
    `end_image`: the picture that the last window's new frames should arrive at, [H, W, 3]; None for no picture.
    """

    run: LTX2Run
    setup: Setup
    decoder: WindowDecoder
    source_sound: Samples | None
    end_image: RGBFrames | None

    def sample(self, current: WindowRun, context: _WindowContext) -> Tensors:
        """Samples window `current`, which continues the frames and the sound in `context`.

        Returns its video latents as `video` and, if the plan makes sound, its audio tokens as `audio`.
        """
        plan = self.run.plan
        window = plan.windows[current.number]
        self.run.on_progress(Progress("encode", 0, 1, current.number + 1, current.count))
        nearest = slice(window.context_frames) if plan.source_last else slice(-window.context_frames, None)
        image = self.end_image if current.is_last else None
        shown = Context(context.frames[nearest], context.sound, image)
        conditioning = window_conditioning(self.run.model, plan, current.number, shown)

        temporal = self.run.model.card.temporal_compression
        latents = new_latents(plan, window, temporal)
        previewed = PreviewedFrames(latents, temporal / plan.rate, current.number + 1, current.count)

        def on_estimate(pass_number: int) -> OnEstimate:
            return preview_callback(self.run.previews, conditioning.preview_decoders[pass_number], previewed)

        sampled = sample_window(self.setup, conditioning, current.noise, current.on_step, on_estimate)
        if current.is_last:
            self.setup.set_pass(None)  # the GPU restores the weights while it decodes
        return sampled

    def forward(
        self, current: WindowRun, context: _WindowContext, tensors: Tensors
    ) -> Generator[GeneratedClip, None, _WindowContext]:
        """Decodes a window whose new frames follow its context. Yields one clip, whose new frames are decoded while the
        caller reads them. Returns the next window's context: the last of these frames, with their sound.

        `current`: the window.
        `context`: the context of this window.
        `tensors`: its video latents and audio tokens, as `sample` returned them.
        """
        plan = self.run.plan
        window = plan.windows[current.number]
        start, stop = window.context_frames, window.context_frames + window.new_frames
        decoder = self.decoder.in_window(current.number + 1, current.count)
        sound = decoder.sound(tensors.get("audio"), 0, stop)
        matches_context = start > 0 and (plan.keeps_source or current.number > 0)
        frames = decoder.frames(tensors["video"], start - 1 if matches_context else 0, stop)
        rendition: Tensor | None = None
        if matches_context:
            opening = next(frames)
            rendition, frames = opening[0], chain([opening[1:]], frames)
        next_context = 1 if current.is_last else plan.windows[current.number + 1].context_frames
        recorder = TailRecorder(frames, context.frames, next_context)
        yield GeneratedClip(iter(recorder), window.new_frames, start, rendition, context.neighbour, sound)
        if sound is not None:
            sound = self._audible(sound[:, : num_samples(stop, plan.rate)][:, -num_samples(next_context, plan.rate) :])
        return _WindowContext(recorder.tail, sound, recorder.tail[-1])

    def backward(
        self, current: WindowRun, context: _WindowContext, tensors: Tensors
    ) -> Generator[GeneratedClip, None, _WindowContext]:
        """Decodes a window whose new frames precede its context. Yields one clip, as `forward` does, and with the same
        arguments. Returns the context of the next window, which plays before this one: the first of the new frames,
        with their sound."""
        plan = self.run.plan
        window = plan.windows[current.number]
        stop = window.context_start("backward")
        start, end = stop - window.new_frames, stop + window.context_frames
        latent = tensors["video"]
        sound = self.decoder.in_window(current.number + 1, current.count).sound(tensors.get("audio"), start, end)
        matches_context = window.context_frames > 0 and (plan.keeps_source or current.number > 0)
        rendition = self.decoder.few_frames(latent, stop, stop + 1)[0] if matches_context else None
        # The caller reads the clips in playing order, so this window's frames are decoded after those of later windows.
        decoder = self.decoder.in_window(current.count - current.number, current.count)
        frames = decoder.frames(latent, start, stop if matches_context else end)
        yield GeneratedClip(frames, window.new_frames, window.context_frames, rendition, context.neighbour, sound)
        if current.is_last:
            return context
        # `generate` takes the clips of all windows before it reads any, so the next context is decoded by itself here.
        next_context = plan.windows[current.number + 1].context_frames
        first_frames = as_rgb(self.decoder.few_frames(latent, start, start + next_context))
        spare = min(SPARE_SAMPLES, num_samples(start, plan.rate))
        if sound is not None:
            sound = self._audible(sound[:, spare : spare + num_samples(next_context, plan.rate)])
        return _WindowContext(first_frames, sound, first_frames[0])

    def _audible(self, sound: Samples) -> Samples:
        """Returns generated sound [2, n], amplified if it is too quiet for the model to continue it well in the next
        window.

        Too quiet is less than `LTX2Card.least_loudness` times the loudness of the source's sound. If the source has no
        sound, the generated sound stays unchanged.
        """
        if self.source_sound is None:
            return sound
        return amplified(sound, self.run.model.card.least_loudness * loudness(self.source_sound))
