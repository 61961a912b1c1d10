"""Describes the plan of a video (what was decided before its generation, such as sizes and price) as rows of text for
people, and as a JSON document."""

from collections.abc import Mapping
from dataclasses import asdict
from fractions import Fraction
from typing import Any

from longtake.families import FAMILIES, plan_to_json
from longtake.families.family import Rows
from longtake.plans import Plan, PlannedAdapter
from longtake.video import VideoInfo


def rate_text(rate: Fraction) -> str:
    """Returns a rate in frames per second as text: `24 fps`, or `23.976 fps (24000/1001)` if it is no whole number."""
    return f"{rate} fps" if rate.denominator == 1 else f"{float(rate):.3f} fps ({rate})"


def price_text(plan: Plan) -> str:
    """Returns the price and the billed units of a planned video as text, such as `$0.1008 (5.04167 seconds); here it
    costs nothing`.

    The price is what the endpoint costs on fal, or what the operator has set; this machine's user pays nothing.
    """
    unit = plan.unit.removesuffix("s") if plan.billed_units == 1 else plan.unit
    return f"${float(plan.price_usd):.4f} ({float(plan.billed_units):g} {unit}); here it costs nothing"


def plan_document(plan: Plan) -> dict[str, Any]:
    """Returns the plan of a video as the JSON document that the command line prints and the server sends.

    Each fraction is a number. Beside a rate, `<name>_exact` has its exact value as text, such as `24000/1001`.
    """
    document: dict[str, Any] = numbers(plan_to_json(plan), asdict(plan))
    return document


def numbers(document: Any, values: Any) -> Any:
    """Returns a copy of a plan's JSON document in which each fraction is a number, and not a text such as `24000/1001`.

    Beside a number whose name ends in `rate`, the copy has the fraction as text, under the name `<name>_exact`.

    document: the JSON document of a plan, or a part of it.
    values: the same data before it was turned into JSON. A text in `document` is a fraction if `values` has a Fraction
        at the same place.
    """
    match document, values:
        case Mapping(), Mapping():
            result: dict[str, Any] = {}
            for name, value in document.items():
                source = values.get(name)
                result[name] = numbers(value, source)
                if name.endswith("rate") and isinstance(source, Fraction):
                    result[f"{name}_exact"] = str(source)
            return result
        case list(), list() | tuple():
            return [numbers(one, source) for one, source in zip(document, values, strict=True)]
        case _, Fraction():
            return int(values) if values.denominator == 1 else float(values)
        case _:
            return document


def frames_text(plan: Plan) -> str:
    """Returns the number of frames as text, with its parts in playing order: `144 = 48 of the source + 96 new`."""
    shown = "of the source" if plan.keeps_source else "of the source, as the model renders them"
    parts = [f"{plan.shown_frames} {shown}", f"{plan.new_frames} new"]
    return f"{plan.num_frames} = {' + '.join(parts[::-1] if plan.new_first else parts)}"


def plan_sections(plan: Plan, facts: VideoInfo, source: str) -> list[tuple[str, Rows]]:
    """Returns the title and the rows of each section of a plan: its input, its output, and the method.

    `facts` describes the source video. `source` is the path or URL of that video.
    """
    family = FAMILIES[plan.family].describe(plan, facts)
    notes = [("note", note) for note in plan.notes]
    return [
        ("What goes in", [*_source(plan, facts, source), *family.goes_in, *_prompts(plan)]),
        ("What comes out", [*_output(plan), *family.comes_out, ("on fal", price_text(plan)), *notes]),
        ("How", [("endpoint", plan.endpoint), ("model", plan.model), ("seed", str(plan.seed)), *family.how]),
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
        *(("adapter" if adapter.own else "LoRA", _adapter_text(adapter)) for adapter in plan.adapters),
    ]


def _adapter_text(adapter: PlannedAdapter) -> str:
    """Returns a LoRA and its strength as text: `dolly_in.safetensors at 0.8`, or `... at 0.2, then 0.5` if the strength
    differs between the passes."""
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
        ("file", f"{file}, returned as a data URI" if plan.sync_mode else file),
    ]
