"""A plan as people read it."""

from fractions import Fraction
from itertools import groupby

from longtake.cli.console import Rows
from longtake.clip import Source
from longtake.plan import SECOND_SCALE_STEPS, AnyPlan, Extension, LTX2Plan, LTXVPlan, Modality, Pass, Plan, Scale


def rate_text(rate: Fraction) -> str:
    """`24 fps`, `23.976 fps (24000/1001)`."""
    return f"{rate} fps" if rate.denominator == 1 else f"{float(rate):.3f} fps ({rate})"


def price_text(price: Fraction) -> str:
    return f"${float(price):.4f}"


def frames_text(plan: Plan) -> str:
    """`144 = 48 of the source + 96 new`, in playing order."""
    shown = "of the source" if plan.keeps_source else "of the source, as the model renders them"
    parts = [f"{plan.shown_frames} {shown}", f"{plan.new_frames} new"]
    return f"{plan.num_frames} = {' + '.join(parts[::-1] if plan.new_first else parts)}"


def plan_sections(plan: AnyPlan, facts: Source, source: str) -> list[tuple[str, Rows]]:
    """The plan as headed lists: what goes in, what comes out, how it is made."""
    into, out_of, how = _ltx2(plan, facts) if isinstance(plan, LTX2Plan) else _ltxv(plan)
    return [
        ("What goes in", [*_source(plan, facts, source), *into]),
        ("What comes out", [*_output(plan), *out_of, ("price", price_text(plan.price_usd))]),
        ("How", [("endpoint", plan.endpoint), ("model", plan.model), ("seed", str(plan.seed)), *how]),
    ]


def _source(plan: Plan, facts: Source, source: str) -> Rows:
    span = plan.context
    sound = "no sound" if facts.sound is None else f"{facts.sound.layout} sound at {facts.sound.rate} Hz"
    clock = "" if span.rate == facts.rate else f", resampled to {rate_text(span.rate)}"
    return [
        ("source", source if len(source) <= 200 else f"{source[:197]}..."),
        ("", f"{facts.codec} in {facts.container}, {facts.width}x{facts.height}, {rate_text(facts.rate)}, {sound}"),
        ("", f"{facts.num_frames} frames, {facts.duration_s:.2f} s"),
        ("read", f"frames {span.start} to {span.stop - 1}{clock}{', backwards' if span.reverse else ''}"),
    ]


def _prompts(plan: Plan) -> Rows:
    return [
        ("prompt", plan.prompt),
        ("negative", plan.negative_prompt),
        *(("LoRA", f"{lora.path} at {lora.scale:g}") for lora in plan.loras),
    ]


def _output(plan: Plan) -> Rows:
    speed = f", {float(plan.speed):.3g} times the source's speed" if plan.speed != 1 else ""
    backwards = ", backwards" if isinstance(plan, LTXVPlan) and plan.reverse else ""
    return [
        ("size", f"{plan.width}x{plan.height}"),
        ("frames", frames_text(plan)),
        ("rate", rate_text(plan.rate) + speed),
        ("duration", f"{plan.duration_s:.2f} s{backwards}"),
    ]


def _ltxv(plan: LTXVPlan) -> tuple[Rows, Rows, Rows]:
    kind = "" if plan.guide == "rgb" else f" as {plan.guide} guidance"
    seen = f"the last {plan.context_frames} of them{kind}, at strength {plan.strength:g}"
    spans = ", ".join(f"{window.start}-{window.stop - 1}" for window in plan.windows)
    windows = f"one window of latent frames {spans}"
    if len(plan.windows) > 1:
        shared = f"each begins with the last {plan.overlap_latents} before it, at strength {plan.overlap_strength:g}"
        windows = f"{len(plan.windows)} windows of latent frames {spans}; {shared}"
    return (
        [("model sees", seen if plan.strength else "none of them (strength 0)"), *_prompts(plan)],
        [],
        [
            ("take", f"{plan.take_frames} frames, in {windows}"),
            *((f"pass {number}", _pass_text(pass_)) for number, pass_ in enumerate(plan.passes, 1)),
            ("evaluations", str(plan.evaluations)),
        ],
    )


def _pass_text(pass_: Pass) -> str:
    """Canvas, steps and how often the model is evaluated, per window."""
    steps = pass_.steps - pass_.skip_initial - pass_.skip_final
    of = f" (of {pass_.steps})" if steps != pass_.steps else ""
    each = sorted({pass_.guidance.evaluations(t) for t in pass_.guidance.timesteps})
    evaluations = str(each[0]) if len(each) == 1 else f"{each[0]} to {each[-1]}, by noise level"
    return f"{_canvas(pass_.canvas)}, {steps} steps{of} per window, evaluations per step: {evaluations}"


def _canvas(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _ltx2(plan: LTX2Plan, facts: Source) -> tuple[Rows, Rows, Rows]:
    edge = "first" if plan.new_first else "last"
    seen = f"the {edge} {plan.context_frames} of them, at strength {plan.strength:g}"
    into: Rows = [("model sees", seen if plan.strength else "none of them (strength 0)")]
    if plan.sound:
        heard = (
            f"their sound, at strength {plan.audio_strength:g}" if plan.audio_strength else "none of it (strength 0)"
        )
        into = [*into, ("model hears", heard if facts.sound else "silence")]
    into = [*into, *_prompts(plan)]
    if plan.end_image is not None:
        image = f"{plan.end_image} as the {edge} frame, at strength {plan.end_image_strength:g}"
        into = [*into, ("end image", image)]
    if plan.camera is not None:
        into = [*into, ("camera", f"{plan.camera}, at {plan.camera_scale:g}")]
    file = f"{plan.output}, quality {plan.quality}, write mode {plan.write_mode}"
    out_of: Rows = [
        ("sound", _sound_text(plan, facts)),
        ("file", f"{file}, told as a data URI" if plan.sync_mode else file),
    ]
    how: Rows = [
        ("windows", _extensions_text(plan)),
        *((f"scale {number}", _scale_text(plan, number, scale)) for number, scale in enumerate(plan.scales, 1)),
        ("picture", _guidance_text(plan, plan.video)),
        *([("sound", _guidance_text(plan, plan.audio))] if plan.sound else []),
        ("sampler", _sampler_text(plan)),
        ("acceleration", plan.acceleration),
        ("evaluations", str(plan.evaluations)),
    ]
    return into, out_of, how


def _extensions_text(plan: LTX2Plan) -> str:
    """The windows in the order they are made, alike ones in one line."""
    lines = []
    for told, alike in groupby(_extension_text(plan, one) for one in plan.extensions):
        count = len(list(alike))
        lines.append(f"{count} times {told}" if count > 1 else told)
    return "\n".join(lines)


def _extension_text(plan: LTX2Plan, one: Extension) -> str:
    given, new = f"{one.context_frames} given", f"{one.new_frames} new"
    spare = one.take_frames - one.context_frames - one.new_frames
    parts = [given, new, *([f"{spare} cut off"] if spare else [])]
    return f"{one.take_frames} frames: {', '.join(parts[::-1] if plan.new_first else parts)}"


def _scale_text(plan: LTX2Plan, number: int, scale: Scale) -> str:
    steps, predictions = (plan.steps, plan.predictions) if number == 1 else (SECOND_SCALE_STEPS, ("prompt",))
    each = f"{steps} steps per window, evaluations per step: {len(predictions)} ({', '.join(predictions)})"
    distill = f", distill adapter at {scale.distill:g}" if scale.distill else ""
    return f"{_canvas(scale.canvas)}, {each}{distill}"


def _sound_text(plan: LTX2Plan, facts: Source) -> str:
    if plan.output == "GIF (.gif)" or not (plan.sound or facts.sound):
        return "none"
    parts = ["the source's own" if facts.sound else "silence", "made with the picture" if plan.sound else "silence"]
    return ", then ".join(parts[::-1] if plan.new_first else parts)


def _guidance_text(plan: LTX2Plan, scales: Modality) -> str:
    """The scales that are on."""
    where = f" (block {', '.join(map(str, plan.stg_blocks))})"
    told = [
        *([f"CFG {scales.cfg:g}"] if scales.cfg != 1 else []),
        *([f"STG {scales.stg:g}{where}"] if scales.stg else []),
        *([f"modality {scales.modality:g}"] if plan.sound and scales.modality != 1 else []),
    ]
    if not told:
        return "unguided"
    return ", ".join([*told, f"rescaled by {scales.rescale:g}"] if scales.rescale else told)


def _sampler_text(plan: LTX2Plan) -> str:
    told = [f"{plan.scheduler} schedule"]
    if plan.gamma:
        told.append(f"gradient estimation, gamma {plan.gamma:g}")
    if plan.eta:
        told.append(f"ancestral renoise, eta {plan.eta:g}")
    return ", ".join(told)
