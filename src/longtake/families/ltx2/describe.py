"""Describes a plan of LTX-2.3 for people to read."""

from itertools import groupby

from longtake.families.family import Description, Rows
from longtake.families.ltx2.options import GuidanceScales
from longtake.families.ltx2.plan import SECOND_PASS_STEPS, LTX2Plan
from longtake.families.ltx2.windows import Window
from longtake.video import VideoInfo


def describe(plan: LTX2Plan, facts: VideoInfo) -> Description:
    """Returns what people should know about `plan`: what the model sees and hears, the output's sound, and the
    sampling.

    `facts` are the facts of the source video.
    """
    edge = "first" if plan.new_first else "last"
    context = f"the {edge} {plan.context_frames} of them, at strength {plan.strength:g}"
    goes_in: Rows = [("model sees", context if plan.strength and plan.context_frames else "none of them")]
    if plan.sound:
        heard = f"their sound, at strength {plan.audio_strength:g}"
        silent = "silence" if facts.sound is None else "none of it (strength 0)"
        goes_in = [*goes_in, ("model hears", heard if facts.sound and plan.audio_strength else silent)]
    if plan.end_image is not None:
        image = f"{plan.end_image} as the {edge} frame, at strength {plan.end_image_strength:g}"
        goes_in = [*goes_in, ("end image", image)]
    how: Rows = [
        ("windows", _windows_text(plan)),
        *((f"pass {number}", _pass_text(plan, number)) for number in range(1, plan.num_passes + 1)),
        ("picture", _guidance_text(plan, plan.video)),
        *([("sound", _guidance_text(plan, plan.audio))] if plan.sound else []),
        ("sampler", _sampler_text(plan)),
        ("acceleration", plan.acceleration),
        ("evaluations", str(plan.evaluations)),
    ]
    return Description(goes_in, [("sound", _sound_text(plan, facts))], how)


def _windows_text(plan: LTX2Plan) -> str:
    """Returns one line of text for each window, in the order of sampling.

    A line counts the window's frames: `33 frames: 9 given, 24 new`. "Given" are the frames that the window continues.
    Equal windows that follow each other share one line. It begins with their count, such as `3 times`.
    """
    lines = []
    for text, alike in groupby(_window_text(plan, window) for window in plan.windows):
        count = len(list(alike))
        lines.append(f"{count} times {text}" if count > 1 else text)
    return "\n".join(lines)


def _window_text(plan: LTX2Plan, window: Window) -> str:
    spare = window.sampled_frames - window.context_frames - window.new_frames
    cut_off = [f"{spare} cut off"] if spare else []
    parts = [f"{window.context_frames} given", f"{window.new_frames} new", *cut_off]
    return f"{window.sampled_frames} frames: {', '.join(parts[::-1] if plan.new_first else parts)}"


def _pass_text(plan: LTX2Plan, number: int) -> str:
    """Returns a text about pass `number`, from 1: the size in pixels of the frames that it samples, the number of
    steps, and how often each step evaluates the model."""
    steps, predictions = (plan.steps, plan.predictions) if number == 1 else (SECOND_PASS_STEPS, ("prompt",))
    width, height = plan.canvases[number - 1]
    each = f"evaluations per step: {len(predictions)} ({', '.join(predictions)})"
    return f"{width}x{height}, {steps} steps per window, {each}"


def _sound_text(plan: LTX2Plan, facts: VideoInfo) -> str:
    if plan.output_format.sound is None or not (plan.sound or facts.sound):
        return "none"
    parts = ["the source's own" if facts.sound else "silence", "made with the picture" if plan.sound else "silence"]
    return ", then ".join(parts[::-1] if plan.new_first else parts)


def _guidance_text(plan: LTX2Plan, scales: GuidanceScales) -> str:
    """Returns the `scales` that are not off as text, such as `CFG 3, STG 1`, or `unguided` if all are off."""
    blocks = f" (block {', '.join(map(str, plan.stg_blocks))})"
    on = [
        *([f"CFG {scales.cfg:g}"] if scales.cfg != 1 else []),
        *([f"STG {scales.stg:g}{blocks}"] if scales.stg else []),
        *([f"modality {scales.modality:g}"] if plan.sound and scales.modality != 1 else []),
    ]
    if not on:
        return "unguided"
    return ", ".join([*on, f"rescaled by {scales.rescale:g}"] if scales.rescale else on)


def _sampler_text(plan: LTX2Plan) -> str:
    parts = [f"{plan.scheduler} schedule"]
    if plan.gamma:
        parts.append(f"gradient estimation, gamma {plan.gamma:g}")
    if plan.eta:
        parts.append(f"ancestral renoise, eta {plan.eta:g}")
    return ", ".join(parts)
