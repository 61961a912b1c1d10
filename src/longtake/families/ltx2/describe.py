"""A plan of LTX-2.3 as people read it."""

from itertools import groupby

from longtake.families.family import Description, Rows
from longtake.families.ltx2.options import Modality
from longtake.families.ltx2.plan import SECOND_SCALE_STEPS, Extension, LTX2Plan
from longtake.video import VideoInfo


def describe(plan: LTX2Plan, facts: VideoInfo) -> Description:
    """The lines that plans of this family have beyond those of all plans."""
    edge = "first" if plan.new_first else "last"
    seen = f"the {edge} {plan.context_frames} of them, at strength {plan.strength:g}"
    goes_in: Rows = [("model sees", seen if plan.strength and plan.context_frames else "none of them")]
    if plan.sound:
        heard = f"their sound, at strength {plan.audio_strength:g}"
        silent = "silence" if facts.sound is None else "none of it (strength 0)"
        goes_in = [*goes_in, ("model hears", heard if facts.sound and plan.audio_strength else silent)]
    if plan.end_image is not None:
        image = f"{plan.end_image} as the {edge} frame, at strength {plan.end_image_strength:g}"
        goes_in = [*goes_in, ("end image", image)]
    how: Rows = [
        ("windows", _extensions_text(plan)),
        *((f"scale {number}", _scale_text(plan, number)) for number in range(1, plan.num_passes + 1)),
        ("picture", _guidance_text(plan, plan.video)),
        *([("sound", _guidance_text(plan, plan.audio))] if plan.sound else []),
        ("sampler", _sampler_text(plan)),
        ("acceleration", plan.acceleration),
        ("evaluations", str(plan.evaluations)),
    ]
    return Description(goes_in, [("sound", _sound_text(plan, facts))], how)


def _extensions_text(plan: LTX2Plan) -> str:
    """The windows in the order they are made, alike ones in one line."""
    lines = []
    for text, alike in groupby(_extension_text(plan, one) for one in plan.extensions):
        count = len(list(alike))
        lines.append(f"{count} times {text}" if count > 1 else text)
    return "\n".join(lines)


def _extension_text(plan: LTX2Plan, one: Extension) -> str:
    given, new = f"{one.context_frames} given", f"{one.new_frames} new"
    spare = one.take_frames - one.context_frames - one.new_frames
    parts = [given, new, *([f"{spare} cut off"] if spare else [])]
    return f"{one.take_frames} frames: {', '.join(parts[::-1] if plan.new_first else parts)}"


def _scale_text(plan: LTX2Plan, number: int) -> str:
    steps, predictions = (plan.steps, plan.predictions) if number == 1 else (SECOND_SCALE_STEPS, ("prompt",))
    width, height = plan.scales[number - 1]
    each = f"evaluations per step: {len(predictions)} ({', '.join(predictions)})"
    return f"{width}x{height}, {steps} steps per window, {each}"


def _sound_text(plan: LTX2Plan, facts: VideoInfo) -> str:
    if plan.output_format.sound is None or not (plan.sound or facts.sound):
        return "none"
    parts = ["the source's own" if facts.sound else "silence", "made with the picture" if plan.sound else "silence"]
    return ", then ".join(parts[::-1] if plan.new_first else parts)


def _guidance_text(plan: LTX2Plan, scales: Modality) -> str:
    """The scales that are on."""
    where = f" (block {', '.join(map(str, plan.stg_blocks))})"
    on = [
        *([f"CFG {scales.cfg:g}"] if scales.cfg != 1 else []),
        *([f"STG {scales.stg:g}{where}"] if scales.stg else []),
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
