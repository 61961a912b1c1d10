"""Films of the synthetic world, plans to continue them, and their generation by the embedded model with sound."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from longtake.endpoints import ltx23
from longtake.endpoints.validation import parse
from longtake.families.family import Context, GeneratedClip, PlanRun
from longtake.families.ltx2.generate import generate
from longtake.families.ltx2.model import LTX2Model
from longtake.families.ltx2.plan import LTX2Plan
from longtake.media.sound import Samples, num_samples
from longtake.models.applying import applied
from longtake.models.loras import LoraCache
from longtake.sampling.resume import NO_RESUME, Resume
from longtake.settings import settings
from longtake.video import OnProgress, VideoInfo, ignore_progress
from recipes.tiny.render import render
from recipes.tiny.world import Scene, prompt, sample
from recipes.tiny_av.sound import sound
from tests.models.adapters import load_adapters
from tests.models.cards import ltx2_card

RATE = Fraction(24)
CONTEXT, NEW = 17, 16

PLAIN = {
    "num_inference_steps": 8,
    "use_multiscale": False,
    "use_restart_sampling": False,
    "video_cfg_scale": 1,
    "video_stg_scale": 0,
    "video_modality_scale": 1,
    "audio_cfg_scale": 1,
    "audio_modality_scale": 1,
    "distill_lora_first_pass_scale": 0,
    "distill_lora_second_pass_scale": 0,
}
"""The fields of a quick request: one pass, one prediction a step."""


def scene_of(kind: Any, seed: int, is_good: Callable[[Scene], bool]) -> Scene:
    """The first good scene of a kind among those of the seeds from `seed` on."""
    scenes = (sample(seed + i, kind, (64, 64), CONTEXT + NEW) for i in range(2000))
    return next(scene for scene in scenes if is_good(scene))


SCENE = scene_of(
    "straight",
    961_000_000,
    lambda scene: abs(scene.things[0].velocity[1]) > 0.8 and scene.texture in ("plain", "clouds"),
)
"""Its thing moves fast up or down, so its tone glides."""

STILL = scene_of("still", 962_000_000, lambda scene: scene.texture == "clouds")
"""Nothing in it moves."""


@dataclass(frozen=True)
class Film:
    """All of a scene: `frames` [T, 64, 64, 3] uint8 and its sound [2, n]."""

    scene: Scene
    frames: NDArray[np.uint8]
    sound: Samples

    @property
    def pixels(self) -> Tensor:
        """The frames as [T, 3, 64, 64] in 0..1."""
        return torch.from_numpy(self.frames).permute(0, 3, 1, 2) / 255


def film_of(scene: Scene) -> Film:
    frames = ((render([scene])[0].permute(1, 2, 3, 0) + 1) * 127.5).round().byte().numpy()
    return Film(scene, np.ascontiguousarray(frames), sound(scene, len(frames), RATE, 48_000).numpy())


def planned(film: Film, new: int = NEW, **fields: Any) -> LTX2Plan:
    """The plan of a request for `new` frames after the first (backward: before the last) CONTEXT frames of a film, at
    its own size."""
    body = {"prompt": prompt(film.scene), "video_url": "x", "num_context_frames": CONTEXT}
    request = parse(ltx23.Request, body | PLAIN | fields)
    source = VideoInfo("mp4", "h264", 64, 64, RATE, CONTEXT)
    options = replace(ltx23.ENDPOINT.options(request, source), new_frames=new)
    plan = ltx23.ENDPOINT.plan(options, source, ltx2_card("ltx2-tiny"), request.seed or 1, {})
    assert isinstance(plan, LTX2Plan)
    sides = (64 // 2**later for later in reversed(range(plan.num_passes)))
    canvases = tuple((side, side) for side in sides)
    return replace(plan, width=64, height=64, canvases=canvases)


def hurried(plan: LTX2Plan) -> LTX2Plan:
    """The plan with half of its steps, for tests that do not look at the quality."""
    return replace(plan, steps=plan.steps // 2)


@dataclass(frozen=True)
class Generated:
    """The generated frames [t, 3, 64, 64] in 0..1, the sound [2, n] of the clip that plays first, and all clips."""

    frames: Tensor
    sound: Samples | None
    clips: list[GeneratedClip]

    @property
    def new_sound(self) -> Tensor:
        """The sound after the context, forward."""
        assert self.sound is not None
        return torch.from_numpy(self.sound)[:, num_samples(CONTEXT, RATE) : num_samples(CONTEXT + NEW, RATE)]


def generated(
    model: LTX2Model,
    plan: LTX2Plan,
    film: Film,
    *,
    image: NDArray[np.uint8] | None = None,
    resume: Resume = NO_RESUME,
    on_progress: OnProgress = ignore_progress,
) -> Generated:
    """What the model generates by a plan for a film; `image` [64, 64, 3] is the end image."""
    start = NEW if plan.new_first else 0
    first, last = (num_samples(frame, RATE) for frame in (start, start + CONTEXT))
    if plan.new_first:
        frames, sound = film.frames[-CONTEXT:], film.sound[:, -(last - first) :]
    else:
        frames, sound = film.frames[:CONTEXT], film.sound[:, :last]
    context = Context(frames if plan.context_frames else frames[:0], sound, image)
    loaded = load_adapters(plan.adapters, model.card, settings(), LoraCache(10**9))
    chunks: list[Tensor] = []
    clips: list[GeneratedClip] = []
    with applied(model.transformer, loaded, originals=model.originals) as set_pass:
        run = PlanRun(plan, model, settings(), resume, on_progress, set_pass)
        for clip in generate(run, plan.prompt, context):
            clips.append(clip)
            chunks += clip.frames
    return Generated(torch.cat(chunks), clips[0].sound, clips)


def error(one: Tensor, other: Tensor) -> float:
    """The mean squared difference."""
    return float((one - other).square().mean())
