"""Measures the tiny model on clips that no part of it was trained on.

    python -m recipes.tiny.evaluate [--only straight ...] [--clips 64] [--json figures.json]

Training uses scenes with seeds up to 900 000 000, and these clips have higher seeds. Frames are counted from the first
new one. Figures in "px" are median distances in pixels between an object's centre and its true place.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import torch

from recipes.tiny import configs, measure, sampler
from recipes.tiny.figures import (
    SEED,
    Figures,
    cases,
    clips_of,
    compare,
    distances,
    freeze,
    mean,
    print_chosen,
    prompts_of,
)
from recipes.tiny.measure import Truth
from recipes.tiny.render import render
from recipes.tiny.sampler import Conditioning, Family
from recipes.tiny.world import DIRECTIONS, Kind, Scene, direction, prompt, sample, track

CONTEXT = 17


def _speed(scene: Scene) -> float:
    vx, vy = scene.things[0].velocity
    return float(torch.tensor([vx, vy]).norm())


def _moving(case: Truth) -> bool:
    return _speed(case.scene) >= 0.5 and measure.measurable(case)


def _median(values: list[float]) -> float:
    return float(torch.tensor(values).median())


def continuation(
    family: Family, found: list[Truth], context: int = CONTEXT, prompts: list[str] | None = None
) -> Figures:
    """Extends clips from their first `context` frames and returns figures on the new frames.

    Two comparisons are added: a clip that repeats the last context frame, and the true clip after the VAE's encoder and
    decoder. If `prompts` is None, the scenes' own prompts are used.
    """
    clips, new = clips_of(found), slice(context, None)
    made = sampler.extend(family, clips[:, :, :context], clips.shape[2], prompts or prompts_of(found))
    figures = compare(found, made, new)
    frozen = compare(found, freeze(clips, context), new)
    trip = compare(found, sampler.decode(family, sampler.encode(family, clips)), new)
    figures["PSNR over freezing"] = figures["PSNR"] - frozen["PSNR"]
    figures |= {f"freezing {name}": frozen[name] for name in ("px 1-8", "px 9-")}
    return figures | {f"round trip {name}": trip[name] for name in ("px 9-", "IoU 9-", "PSNR")}


def straight(family: Family, count: int) -> Figures:
    """Measures one solid object in straight motion: 17 frames of context, 16 new ones."""
    return continuation(family, cases("straight", count, 33, _moving))


def straight_24(family: Family, count: int) -> Figures:
    """Measures one solid object in straight motion with 24 new frames, the number that a window of the product has."""
    return continuation(family, cases("straight", count, 41, _moving))


def straight_wide(family: Family, count: int) -> Figures:
    """Measures one solid object in straight motion at 112x64 pixels."""
    return continuation(family, cases("straight", count, 33, _moving, (112, 64)))


def straight_unprompted(family: Family, count: int) -> Figures:
    """Measures one solid object in straight motion with an empty prompt."""
    return continuation(family, cases("straight", count, 33, _moving), prompts=[""] * count)


def straight_unknown_words(family: Family, count: int) -> Figures:
    """Measures one solid object in straight motion with a prompt of words that the model does not know."""
    sentence = "cinematic handheld footage , highly detailed , natural light"
    return continuation(family, cases("straight", count, 33, _moving), prompts=[sentence] * count)


def shapes(family: Family, count: int) -> Figures:
    """Measures objects of all six shapes in straight motion."""
    return continuation(family, cases("shapes", count, 33, _moving))


def bounce(family: Family, count: int) -> Figures:
    """Measures clips whose object bounces off a wall in the new frames, and not in the five frames before them."""

    def meets(case: Truth) -> bool:
        turn = (case.path[2:] - 2 * case.path[1:-1] + case.path[:-2]).norm(dim=1) > 0.05
        return bool(
            turn[CONTEXT : CONTEXT + 12].any() and not turn[CONTEXT - 6 : CONTEXT].any()
        ) and measure.measurable(case)

    return continuation(family, cases("bounce", count, 33, meets))


def _progress(family: Family, found: list[Truth]) -> Figures:
    clips = clips_of(found)
    made = sampler.extend(family, clips[:, :, :CONTEXT], clips.shape[2], prompts_of(found))
    speeds = [measure.progress(m[:, CONTEXT:], case.scene, CONTEXT) for m, case in zip(made, found, strict=True)]
    near = [float(abs(speed - 1) <= 0.3) for speed in speeds]
    return {"speed": _median(speeds), "speed error": _median([abs(s - 1) for s in speeds]), "within 30 %": mean(near)}


def rotation(family: Family, count: int) -> Figures:
    """Measures the angular speed of turning bars and triangles as a share of the true one."""

    def turns(case: Truth) -> bool:
        thing = case.scene.things[0]
        return thing.shape in ("bar", "triangle") and abs(thing.spin) <= 0.08 and measure.measurable(case)

    return _progress(family, cases("rotate", count, 33, turns))


def _camera(kind: Kind) -> Callable[[Family, int], Figures]:
    def accept(case: Truth) -> bool:
        fast = float(torch.tensor(case.scene.pan).norm()) >= 0.4 or abs(case.scene.zoom) >= 0.006
        return fast and case.scene.texture == "clouds"

    def figures(family: Family, count: int) -> Figures:
        return _progress(family, cases(kind, count, 33, accept))

    figures.__doc__ = f"Measures clouds under a camera {kind}: its speed as a share of the true one."
    return figures


def pair(family: Family, count: int) -> Figures:
    """Measures clips with two objects that do not hide each other: the median distance of both from their true
    places."""

    def apart(case: Truth) -> bool:
        paths = track(case.scene)[:, :, :2]
        first, second = (torch.tensor(thing.rgb) for thing in case.scene.things)
        clear = (paths[0] - paths[1]).norm(dim=1)[CONTEXT:].min() > 20
        return bool(clear and (first - second).norm() > 0.8) and measure.measurable(case)

    found = cases("pair", count, 33, apart)
    clips = clips_of(found)
    made = sampler.extend(family, clips[:, :, :CONTEXT], clips.shape[2], prompts_of(found))
    early, late = [], []
    for case, clip in zip(found, made, strict=True):
        paths, colours = track(case.scene)[:, :, :2], [torch.tensor(t.rgb).view(3, 1, 1, 1) for t in case.scene.things]
        distances = torch.stack([(clip - c).norm(dim=0) for c in (case.background, *colours)])
        for k, path in enumerate(paths):
            place, _ = measure.locate((distances.argmin(0) == k + 1).float())
            error = (place - path).norm(dim=1)[CONTEXT:]
            early.append(float(error[:8].mean()))
            late.append(float(error[8:].mean()))
    return {"px 1-8": _median(early), "px 9-": _median(late)}


def end_image(family: Family, count: int) -> Figures:
    """Measures clips with one context frame and an end image that shows where the object must arrive, and without end
    image."""
    found = cases("straight", count, 33, _moving)
    clips = clips_of(found)
    lead, image = sampler.encode(family, clips[:, :, :1]), sampler.encode(family, clips[:, :, -1:])
    figures: Figures = {}
    for name, known in (("with", Conditioning(lead=lead, image=image)), ("without", Conditioning(lead=lead))):
        made = sampler.decode(family, sampler.generate(family, known, (9, 4, 4), [""] * count))
        errors = {"px at the end": slice(-1, None), "px half way": slice(16, 17)}
        for label, frames in errors.items():
            figures[f"{label} {name}"] = _median(distances(found, made, frames))
    return figures


def backward(family: Family, count: int) -> Figures:
    """Measures clips whose last 17 frames are known and whose first 16 are new. Frame 1 is the new frame next to the
    known ones."""
    found = cases("straight", count, 33, _moving)
    clips = clips_of(found)
    suffix = sampler.encode(family, clips[:, :, -CONTEXT:])
    made = sampler.decode(family, sampler.generate(family, Conditioning(suffix=suffix), (9, 4, 4), prompts_of(found)))
    early, late = distances(found, made, slice(8, 16)), distances(found, made, slice(0, 8))
    frozen = distances(found, clips[:, :, 16:17].expand(-1, -1, 33, -1, -1), slice(0, 8))
    return {"px 1-8": _median(early), "px 9-": _median(late), "freezing px 9-": _median(frozen)}


def prompts(family: Family, count: int) -> Figures:
    """Measures clips without context: the share of clips that have the colours, the shape and the direction of the
    prompt."""
    scenes = [sample(SEED + i, "straight", num_frames=33) for i in range(count)]
    scenes = [
        replace(s, texture="plain", things=(replace(s.things[0], velocity=_clear(i)),)) for i, s in enumerate(scenes)
    ]
    made = sampler.decode(family, sampler.generate(family, Conditioning(), (9, 4, 4), [prompt(s) for s in scenes]))
    hits: dict[str, list[float]] = {"background colour": [], "object colour": [], "shape": [], "direction": []}
    for scene, clip in zip(scenes, made, strict=True):
        thing = scene.things[0]
        ground = clip.flatten(1).median(dim=1).values.view(3, 1, 1, 1)
        cover = (clip - ground).norm(dim=0) / (clip - ground).norm(dim=0).amax((1, 2), keepdim=True).clamp(min=0.3)
        middle = clip[:, 16][:, cover[16] > 0.8]
        colour = measure.nearest_colour(middle.mean(1)) if middle.numel() else ""
        word, _ = measure.heading(measure.locate(cover)[0])
        hits["background colour"].append(float(measure.nearest_colour(ground.flatten()) == scene.colours[0]))
        hits["object colour"].append(float(colour == thing.colour))
        hits["shape"].append(float(measure.nearest_shape(cover[16]) == thing.shape))
        hits["direction"].append(float(_turn(word, direction(thing.velocity)) <= 1))
    return {name: mean(values) for name, values in hits.items()}


def _clear(i: int) -> tuple[float, float]:
    angle = torch.tensor(i % 8 * torch.pi / 4)
    return 0.9 * float(torch.cos(angle)), 0.9 * float(torch.sin(angle))


def _turn(a: str, b: str) -> int:
    """Returns the angle between two direction words, in eighths of a circle."""
    gap = abs(DIRECTIONS.index(a) - DIRECTIONS.index(b))
    return min(gap, 8 - gap)


def steering(family: Family, count: int) -> Figures:
    """Measures clips with one context frame: the share of clips whose object moves as the prompt says.

    Each frame is continued twice, with prompts of opposite directions.
    """
    found = cases("straight", count, 33, _moving)
    lead = sampler.encode(family, clips_of(found)[:, :, :1])
    hits = []
    for flip in (1, -1):
        scenes = []
        for case in found:
            thing = case.scene.things[0]
            vx, vy = (flip * v for v in thing.velocity)
            scenes.append(replace(case.scene, things=(replace(thing, velocity=(vx, vy)),)))
        known = Conditioning(lead=lead)
        made = sampler.decode(family, sampler.generate(family, known, (9, 4, 4), [prompt(s) for s in scenes]))
        for case, scene, clip in zip(found, scenes, made, strict=True):
            cover = measure.coverage(clip, case.background, scene.things[0].rgb)
            word, _ = measure.heading(measure.locate(cover)[0])
            hits.append(float(_turn(word, direction(scene.things[0].velocity)) <= 1))
    return {"direction": mean(hits), "chance": 3 / 8}


def autoencoder(family: Family, count: int) -> Figures:
    """Measures the PSNR in dB after the VAE's encoder and decoder: of straight clips, of clips whose object can be
    tracked, and of all kinds."""
    plain = render([sample(SEED + i, "straight", num_frames=33) for i in range(count)])
    wide = render([sample(SEED + i, num_frames=33) for i in range(count)])
    good = clips_of(cases("straight", count, 33, _moving))
    figures = {}
    for name, clips in (("straight", plain), ("straight, measurable", good), ("all kinds", wide)):
        trip = sampler.decode(family, sampler.encode(family, clips))
        figures[name] = mean([measure.psnr(a, b) for a, b in zip(trip, clips, strict=True)])
    return figures


def two_scales(family: Family, count: int) -> Figures:
    """Measures two passes: one at 64x64, then three more steps on upsampled latents at 128x128. "px" are pixels at
    64x64."""
    if family.upsampler is None:
        return {}
    found = cases("straight", count, 33, _moving)
    small = clips_of(found)[:, :, :CONTEXT]
    large = render([case.scene for case in found], scale=2)
    latents = sampler.generate(family, Conditioning(lead=sampler.encode(family, small)), (9, 4, 4), prompts_of(found))
    doubled = sampler.upsample(family, latents)
    lead = sampler.encode(family, large[:, :, :CONTEXT])
    made = sampler.generate(family, Conditioning(lead=lead), (9, 8, 8), prompts_of(found), skip_initial=5, init=doubled)
    clips = sampler.decode(family, made)
    trip = sampler.decode(family, sampler.encode(family, large))
    halved = torch.nn.functional.avg_pool3d(clips, (1, 2, 2))
    figures = compare(found, halved, slice(CONTEXT, None))
    figures["PSNR at 128"] = mean(
        [measure.psnr(a[:, CONTEXT:], b[:, CONTEXT:]) for a, b in zip(clips, large, strict=True)]
    )
    figures["round trip PSNR at 128"] = mean([measure.psnr(a, b) for a, b in zip(trip, large, strict=True)])
    return figures


def speed(family: Family, count: int) -> Figures:
    """Measures the seconds to extend a clip at 64x64 from 17 to 41 frames in eight steps. The fastest of five runs
    counts."""
    clip = clips_of(cases("straight", 1, 41, _moving))[:, :, :CONTEXT]
    figures: Figures = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        spent = []
        for _ in range(5):
            began = time.perf_counter()
            sampler.extend(family, clip, 41, ["a red circle moving left"])
            spent.append(time.perf_counter() - began)
        figures[f"seconds, {threads} threads"] = min(spent)
    torch.set_num_threads(1)
    return figures


FIGURES: dict[str, Callable[[Family, int], Figures]] = {
    "straight": straight,
    "straight, 24 made": straight_24,
    "straight, 112x64": straight_wide,
    "straight, empty prompt": straight_unprompted,
    "straight, unknown words": straight_unknown_words,
    "shapes": shapes,
    "rotation": rotation,
    "bounce": bounce,
    "pan": _camera("pan"),
    "zoom": _camera("zoom"),
    "two objects": pair,
    "end image": end_image,
    "backward": backward,
    "prompt alone": prompts,
    "prompt and one frame": steering,
    "autoencoder": autoencoder,
    "two scales": two_scales,
    "speed": speed,
}


if __name__ == "__main__":
    print_chosen(FIGURES, sampler.load, configs.WEIGHTS, __doc__)
