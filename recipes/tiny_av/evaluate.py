"""Measures the embedded LTX-2 model on clips that no part of it was trained on.

    python -m recipes.tiny_av.evaluate [--only straight ...] [--clips 64] [--json figures.json]

Unless a figure says otherwise, clips are sampled in 15 steps of the model's own schedule, without guidance and together
with their sound. Frames are counted from the first new one. Cents are hundredths of a semitone.
"""

import math
import time
from collections.abc import Callable, Sequence

import torch

from recipes.tiny import configs as first
from recipes.tiny import measure
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
from recipes.tiny.world import Kind, Scene, prompt, sample
from recipes.tiny_av import camera, configs, sampler
from recipes.tiny_av.sampler import Family, Way
from recipes.tiny_av.sound import listen, sound
from recipes.tiny_av.sound_configs import FULL_RATE, SOUND_RATE
from recipes.tiny_av.windows import audio_count

FRAMES, CONTEXT = 33, 17
LEAD = first.num_latents(CONTEXT)


def moving(case: Truth) -> bool:
    """Returns True if object 0 moves by at least half a pixel per frame and can be tracked."""
    return math.hypot(*case.scene.things[0].velocity) >= 0.5 and measure.measurable(case)


def _median(values: list[float]) -> float:
    return float(torch.tensor(values).nanmedian())


def sounds_of(family: Family, scenes: list[Scene], num_frames: int) -> torch.Tensor:
    """Returns the audio tokens of the scenes' own sounds during their first `num_frames` frames."""
    waves = [sound(scene, num_frames, first.FPS) for scene in scenes]
    return sampler.hear(family, waves, SOUND_RATE, audio_count(num_frames, first.FPS))


def continuation(family: Family, found: list[Truth], with_sound: bool = True, way: Way | None = None) -> Figures:
    """Extends clips from 17 context frames and returns figures on the new frames.

    Two comparisons are added: a clip that repeats the last context frame, and the true clip after the VAE's encoder and
    decoder.
    """
    clips = clips_of(found)
    frames, (rows, columns) = clips.shape[2], (side // first.SPATIAL for side in clips.shape[3:])
    lead = sampler.encode(family, clips[:, :, :CONTEXT])
    heard = sounds_of(family, [case.scene for case in found], frames) if with_sound else None
    known = sampler.window(lead, first.num_latents(frames), (rows, columns), heard)
    video, _ = sampler.sample(family, known, prompts_of(found), way or Way(linked=with_sound))
    figures = compare(found, sampler.decode(family, video, rows, columns), slice(CONTEXT, None))
    frozen = compare(found, freeze(clips, CONTEXT), slice(CONTEXT, None))
    trip = compare(found, sampler.decode(family, sampler.encode(family, clips), rows, columns), slice(CONTEXT, None))
    figures["PSNR over freezing"] = figures["PSNR"] - frozen["PSNR"]
    return figures | {f"round trip {name}": trip[name] for name in ("px 9-", "IoU 9-", "PSNR")}


def straight(family: Family, count: int) -> Figures:
    """Measures one solid object in straight motion: 17 frames of context with their sound, 16 new ones."""
    return continuation(family, cases("straight", count, FRAMES, moving))


def silent(family: Family, count: int) -> Figures:
    """Measures one solid object in straight motion, in a video without sound."""
    return continuation(family, cases("straight", count, FRAMES, moving), with_sound=False)


def longer(family: Family, count: int) -> Figures:
    """Measures one solid object in straight motion with 24 new frames."""
    return continuation(family, cases("straight", count, 41, moving))


def few_steps(family: Family, count: int) -> Figures:
    """Measures four steps, at noise level 1 and at the three levels of the second pass, without and with the distill
    adapter."""
    way = Way(levels=(1.0, *sampler.SECOND_PASS))
    found = cases("straight", count, FRAMES, moving)
    figures: Figures = {}
    for name, one in (("without", family), ("with", sampler.adapted(family, "distill"))):
        got = continuation(one, found, way=way)
        figures |= {f"{key} {name}": got[key] for key in ("px 1-8", "px 9-", "contrast 9-", "PSNR over freezing")}
    return figures


def end_image(family: Family, count: int, contexts: Sequence[int] = (1, CONTEXT)) -> Figures:
    """Measures the distance of the object from its true place in the last frame, with an end image and without.

    contexts: numbers of context frames to measure with.
    """
    found = cases("straight", count, FRAMES, moving)
    clips = clips_of(found)
    image, figures = sampler.encode(family, clips[:, :, -1:]), {}
    for frames in contexts:
        lead = sampler.encode(family, clips[:, :, :frames])
        for name, end in (("with", image), ("without", None)):
            known = sampler.window(lead, first.num_latents(FRAMES), (4, 4), end=end)
            made = sampler.decode(family, sampler.sample(family, known, [""] * count)[0], 4, 4)
            figures[f"{frames} context frames, px at the end {name}"] = _median(distances(found, made, slice(-1, None)))
    return figures


def backward(family: Family, count: int) -> Figures:
    """Measures clips whose last 16 frames are known, with their sound, and whose first 17 are new. Frame 1 is the new
    frame next to the known ones."""
    found = cases("straight", count, FRAMES, moving)
    clips = clips_of(found)
    new = FRAMES - CONTEXT + 1
    mirrored = torch.cat([clips[:, :, new:].flip(2), clips[:, :, new : new + 1], clips[:, :, new:]], dim=2)
    lead = sampler.encode(family, mirrored)[:, -(LEAD - 1) :]
    heard = sounds_of(family, [case.scene for case in found], FRAMES)
    known = sampler.window(lead, first.num_latents(FRAMES), (4, 4), heard, ends_with=True)
    made = sampler.decode(family, sampler.sample(family, known, prompts_of(found))[0], 4, 4)
    frozen = clips[:, :, new : new + 1].expand(-1, -1, FRAMES, -1, -1)
    return {
        "px 1-8": _median(distances(found, made, slice(new - 8, new))),
        "px 9-": _median(distances(found, made, slice(0, new - 8))),
        "freezing px 9-": _median(distances(found, frozen, slice(0, new - 8))),
    }


def _moves(name: str) -> Callable[[Family, int], Figures]:
    def figures(family: Family, count: int) -> Figures:
        scenes = [camera.scene_of(name, SEED + i) for i in range(8 * count)]
        scenes = [s for s in scenes if s.texture == "clouds" and s.things and camera.moves(s)][:count]
        clips, start = torch.stack([camera.clip_of(name, s, CONTEXT) for s in scenes]), 0
        if name == "static":
            start = CONTEXT - 1
        lead = sampler.encode(family, clips[:, :, :CONTEXT])
        known = sampler.window(lead, first.num_latents(FRAMES), (4, 4))
        out: Figures = {}
        for label, one in (("without", family), ("with", sampler.adapted(family, f"camera_{name}"))):
            video, _ = sampler.sample(one, known, [prompt(camera.before(s)) for s in scenes])
            made = sampler.decode(family, video, 4, 4)[:, :, CONTEXT:]
            out[f"speed {label}"] = _median([_speed(m, s, start) for m, s in zip(made, scenes, strict=True)])
        return out

    figures.__doc__ = f"""Measures the speed of the camera with its adapter {name} and without, as a share of what the
    adapter was taught. In the context the camera stands. For `static` it moves there, and its own speed is the measure.
    """
    return figures


def _speed(made: torch.Tensor, scene: Scene, start: int) -> float:
    """Returns the speed of the new frames along the camera's move; 1 is the scene's own speed.

    start: the frame of the scene that the last context frame shows.
    """
    count = made.shape[1]
    times = torch.arange(-0.5 * count, 1.6 * count, 0.25)
    views = render([scene], t=start + times)[0]
    best = times[(made[:, :, None] - views[:, None]).square().mean((0, 3, 4)).argmin(1)]
    k = torch.arange(1, count + 1, dtype=torch.float32)
    return float((best * k).sum() / k.square().sum())


def _sung(waves: list[torch.Tensor], scenes: list[Scene], start: float, end: float) -> Figures:
    """Returns figures that compare the sounds `waves` with the scenes' own: pitch, loudness, and balance of left and
    right.

    Only the time from `start` to `end`, in seconds, is compared.
    """
    cents, levels, sides, silent = [], [], [], []
    for wave, scene in zip(waves, scenes, strict=True):
        made = listen(wave, FULL_RATE)
        true = listen(sound(scene, FRAMES, first.FPS, FULL_RATE), FULL_RATE)
        part = slice(round(start * 100) + 3, round(end * 100) - 6)
        cents.append(_median((1200 * torch.log2(made.pitch[part] / true.pitch[part])).abs().tolist()))
        silent.append(float(made.pitch[part].isnan().float().mean()))
        levels.append(float((made.level[part] - true.level[part]).mean()))
        sides.append(_median((made.pan[part] - true.pan[part]).abs().tolist()))
    return {
        "cents": _median(cents),
        "within a semitone": float((torch.tensor(cents) < 100).float().mean()),
        "no pitch": float(torch.tensor(silent).mean()),
        "dB too loud": _median(levels),
        "dB off": _median([abs(v) for v in levels]),
        "side": _median(sides),
    }


ALL_SOUNDS = ("continued", "alone", "from the picture", "round trip")
"""Ways to get the sound of new frames.

- continued: after the context's sound.
- alone: the same, but the model does not see the video.
- from the picture: from the video alone, without the context's sound.
- round trip: the true sound, encoded and decoded by the audio autoencoder.
"""


def sounds(family: Family, count: int, ways: Sequence[str] = ALL_SOUNDS) -> Figures:
    """Measures the errors of the new frames' sound in pitch, loudness and balance of left and right, for each of
    `ways`."""
    plain = [c for c in cases("straight", 2 * count, FRAMES, moving) if c.scene.texture in ("plain", "gradient")]
    found = plain[:count]
    scenes, clips = [case.scene for case in found], clips_of(found)
    lead, heard = sampler.encode(family, clips[:, :, :CONTEXT]), sounds_of(family, scenes, FRAMES)
    start, end = CONTEXT / first.FPS, FRAMES / first.FPS
    figures: Figures = {}
    for way in ways:
        audio = heard
        if way != "round trip":
            context = None if way == "from the picture" else heard
            known = sampler.window(lead, first.num_latents(FRAMES), (4, 4), context)
            _, audio = sampler.sample(family, known, prompts_of(found), Way(linked=way != "alone"))
        measured = _sung(sampler.speak(family, audio, end), scenes, start, end)
        figures |= {f"{way}: {key}": value for key, value in measured.items()}
    return figures


def autoencoder(family: Family, count: int) -> Figures:
    """Measures the PSNR in dB after the VAE's encoder and decoder, of straight clips and of all kinds."""
    figures: Figures = {}
    kinds: dict[str, Kind | None] = {"straight": "straight", "all kinds": None}
    for name, kind in kinds.items():
        clips = render([sample(SEED + i, kind, num_frames=FRAMES) for i in range(count)])
        made = sampler.decode(family, sampler.encode(family, clips), 4, 4)
        figures[f"PSNR {name}"] = sum(measure.psnr(m, c) for m, c in zip(made, clips, strict=True)) / count
    return figures


def two_scales(family: Family, count: int) -> Figures:
    """Measures two passes: one at 64x64, then three more steps on upsampled latents at 128x128, with the distill
    adapter.

    The sound of the first pass does not change. "px" are pixels at 64x64.
    """
    found = cases("straight", count, FRAMES, moving)
    scenes, large = [case.scene for case in found], render([case.scene for case in found], scale=2)
    heard = sounds_of(family, scenes, FRAMES)
    lead = sampler.encode(family, clips_of(found)[:, :, :CONTEXT])
    video, audio = sampler.sample(
        family, sampler.window(lead, first.num_latents(FRAMES), (4, 4), heard), prompts_of(found)
    )
    lead = sampler.encode(family, large[:, :, :CONTEXT])
    known = sampler.window(lead, first.num_latents(FRAMES), (8, 8), audio)
    refining = sampler.adapted(family, "distill")
    init = sampler.doubled(family, video, (4, 4))
    video, _ = sampler.sample(refining, known, prompts_of(found), Way(levels=sampler.SECOND_PASS), init=init)
    clips = sampler.decode(family, video, 8, 8)
    trip = sampler.decode(family, sampler.encode(family, large), 8, 8)
    figures = compare(found, torch.nn.functional.avg_pool3d(clips, (1, 2, 2)), slice(CONTEXT, None))
    new = (slice(None), slice(CONTEXT, None))
    figures["PSNR at 128"] = mean([measure.psnr(a[new], b[new]) for a, b in zip(clips, large, strict=True)])
    figures["round trip PSNR at 128"] = mean([measure.psnr(a, b) for a, b in zip(trip, large, strict=True)])
    return figures


def speed(family: Family, _: int) -> Figures:
    """Measures the seconds to extend a clip and its sound by 24 frames at 64x64 in 15 steps, by number of threads."""
    case = cases("straight", 1, 41, moving)[0]
    clip, figures = case.clip[None, :, :CONTEXT], {}
    wave = sound(case.scene, CONTEXT, first.FPS)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        spent = []
        for _ in range(3):
            began = time.perf_counter()
            count = audio_count(41, first.FPS)
            heard = sampler.hear(family, [wave], SOUND_RATE, count)
            known = sampler.window(sampler.encode(family, clip), first.num_latents(41), (4, 4), heard)
            video, audio = sampler.sample(family, known, [prompt(case.scene)])
            sampler.decode(family, video, 4, 4)
            sampler.speak(family, audio, 41 / first.FPS)
            spent.append(time.perf_counter() - began)
        figures[f"seconds, {threads} threads"] = min(spent)
    torch.set_num_threads(1)
    return figures


FIGURES: dict[str, Callable[[Family, int], Figures]] = {
    "straight": straight,
    "straight, no sound": silent,
    "straight, 24 made": longer,
    "end image": end_image,
    "backward": backward,
    "sound": sounds,
    **{name.replace("_", " "): _moves(name) for name in camera.MOVES},
    "four steps": few_steps,
    "two scales": two_scales,
    "autoencoder": autoencoder,
    "speed": speed,
}


if __name__ == "__main__":
    print_chosen(FIGURES, sampler.load, configs.WEIGHTS, __doc__)
