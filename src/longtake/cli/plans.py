"""A plan as people read it."""

from fractions import Fraction

from longtake.cli.console import Rows
from longtake.families import FAMILIES
from longtake.plans import Plan, PlannedAdapter
from longtake.video import VideoInfo


def rate_text(rate: Fraction) -> str:
    """`24 fps`, `23.976 fps (24000/1001)`."""
    return f"{rate} fps" if rate.denominator == 1 else f"{float(rate):.3f} fps ({rate})"


def price_text(plan: Plan) -> str:
    """`$0.1008 (5.04167 seconds)`."""
    return f"${float(plan.price_usd):.4f} ({float(plan.billed_units):g} {plan.unit})"


def frames_text(plan: Plan) -> str:
    """`144 = 48 of the source + 96 new`, in playing order."""
    shown = "of the source" if plan.keeps_source else "of the source, as the model renders them"
    parts = [f"{plan.shown_frames} {shown}", f"{plan.new_frames} new"]
    return f"{plan.num_frames} = {' + '.join(parts[::-1] if plan.new_first else parts)}"


def plan_sections(plan: Plan, facts: VideoInfo, source: str) -> list[tuple[str, Rows]]:
    """The plan as headed lists: what goes in, what comes out, how it is made."""
    more = FAMILIES[plan.family].describe(plan, facts)
    notes = [("note", note) for note in plan.notes]
    return [
        ("What goes in", [*_source(plan, facts, source), *more.goes_in, *_prompts(plan)]),
        ("What comes out", [*_output(plan), *more.comes_out, ("price", price_text(plan)), *notes]),
        ("How", [("endpoint", plan.endpoint), ("model", plan.model), ("seed", str(plan.seed)), *more.how]),
    ]


def _source(plan: Plan, facts: VideoInfo, source: str) -> Rows:
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
        *(("adapter" if one.own else "LoRA", _adapter_text(one)) for one in plan.adapters),
    ]


def _adapter_text(adapter: PlannedAdapter) -> str:
    """`dolly_in.safetensors at 0.8`; where the passes differ, each pass's strength."""
    scales = adapter.scales[:1] if len(set(adapter.scales)) == 1 else adapter.scales
    return f"{adapter.source} at {', then '.join(f'{scale:g}' for scale in scales)}"


def _output(plan: Plan) -> Rows:
    speed = f", {float(plan.speed):.3g} times the source's speed" if plan.speed != 1 else ""
    backwards = ", backwards" if plan.reversed_at_end else ""
    file = f"{plan.output}, quality {plan.quality}, write mode {plan.write_mode}"
    return [
        ("size", f"{plan.width}x{plan.height}"),
        ("frames", frames_text(plan)),
        ("rate", rate_text(plan.rate) + speed),
        ("duration", f"{plan.duration_s:.2f} s{backwards}"),
        ("file", f"{file}, told as a data URI" if plan.sync_mode else file),
    ]
