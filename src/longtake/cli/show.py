"""A plan and a finished video as people read them, and as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from longtake.cli.console import Rows, bytes_text
from longtake.cli.inspection import Joint
from longtake.clip import Source
from longtake.endpoints import ENDPOINTS
from longtake.endpoints.shared import VideoFile
from longtake.models.download import CheckReport, ModelStatus
from longtake.plan import Pass, Plan, to_json

if TYPE_CHECKING:
    from longtake.take import Result


@dataclass(frozen=True)
class Outcome:
    """A finished video, the facts of its file as read back from it, and its joint where that was asked for."""

    result: "Result"
    facts: Source
    joint: Joint | None
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The endpoint's response, and beside it the prompt used, the plan, the notes and the joint."""
        result, facts = self.result, self.facts
        path = result.path.resolve()
        video = VideoFile(
            url=path.as_uri(),
            content_type=result.content_type,
            file_name=path.name,
            file_size=result.file_size,
            width=facts.width,
            height=facts.height,
            fps=float(facts.rate),
            duration=facts.duration_s,
            num_frames=facts.num_frames,
        )
        said = {"video": video, "prompt": result.prompt, "seed": result.plan.seed}
        response: dict[str, Any] = ENDPOINTS[result.plan.endpoint].Response.model_validate(said).model_dump(mode="json")
        document = response | {"prompt": result.prompt, "plan": to_json(result.plan), "notes": list(self.notes)}
        return document | ({"joint": self.joint.to_json()} if self.joint else {})

    def rows(self) -> Rows:
        result, facts, plan = self.result, self.facts, self.result.plan
        rows = [
            ("file", f"{result.path} ({bytes_text(result.file_size)})"),
            ("size", f"{facts.width}x{facts.height}"),
            ("frames", frames_text(plan)),
            ("rate", rate_text(facts.rate)),
            ("duration", f"{facts.duration_s:.2f} s, {'with' if result.has_sound else 'without'} sound"),
            ("model", plan.model),
            ("seed", str(plan.seed)),
            ("price", price_text(plan.price_usd)),
        ]
        if result.prompt != plan.prompt:
            rows.append(("prompt", result.prompt))
        rows += [("note", note) for note in self.notes]
        return rows + (self.joint.rows() if self.joint else [])


def rate_text(rate: Fraction) -> str:
    """`24 fps`, `23.976 fps (24000/1001)`."""
    return f"{rate} fps" if rate.denominator == 1 else f"{float(rate):.3f} fps ({rate})"


def price_text(price: Fraction) -> str:
    return f"${float(price):.4f}"


def frames_text(plan: Plan) -> str:
    """`144 = 48 of the source + 96 new`."""
    shown = "of the source" if plan.keeps_source else "of the source, as the model renders them"
    return f"{plan.num_frames} = {plan.shown_frames} {shown} + {plan.new_frames} new"


def plan_sections(plan: Plan, facts: Source, source: str) -> list[tuple[str, Rows]]:
    """The plan as headed lists: what goes in, what comes out, how it is made."""
    return [("What goes in", _into(plan, facts, source)), ("What comes out", _out_of(plan)), ("How", _how(plan))]


def _into(plan: Plan, facts: Source, source: str) -> Rows:
    span = plan.context
    sound = "no sound" if facts.sound is None else f"{facts.sound.layout} sound at {facts.sound.rate} Hz"
    length = f"{facts.num_frames} frames, {facts.duration_s:.2f} s"
    clock = "" if span.rate == facts.rate else f", resampled to {rate_text(span.rate)}"
    return [
        ("source", source if len(source) <= 200 else f"{source[:197]}..."),
        ("", f"{facts.codec} in {facts.container}, {facts.width}x{facts.height}, {rate_text(facts.rate)}, {sound}"),
        ("", length),
        ("read", f"frames {span.start} to {span.stop - 1}{clock}{', backwards' if span.reverse else ''}"),
        ("model sees", _seen(plan)),
        ("prompt", plan.prompt),
        ("negative", plan.negative_prompt),
    ] + [("LoRA", f"{lora.path} at {lora.scale:g}") for lora in plan.loras]


def _seen(plan: Plan) -> str:
    if plan.strength == 0:
        return "none of them (strength 0)"
    kind = "" if plan.guide == "rgb" else f" as {plan.guide} guidance"
    return f"the last {plan.context_frames} of them{kind}, at strength {plan.strength:g}"


def _out_of(plan: Plan) -> Rows:
    return [
        ("size", f"{plan.width}x{plan.height}"),
        ("frames", frames_text(plan)),
        (
            "rate",
            rate_text(plan.rate) + (f", {float(plan.speed):.3g} times the source's speed" if plan.speed != 1 else ""),
        ),
        ("duration", f"{plan.duration_s:.2f} s{', backwards' if plan.reverse else ''}"),
        ("price", price_text(plan.price_usd)),
    ]


def _how(plan: Plan) -> Rows:
    spans = ", ".join(f"{window.start}-{window.stop - 1}" for window in plan.windows)
    windows = f"one window of latent frames {spans}"
    if len(plan.windows) > 1:
        shared = f"each begins with the last {plan.overlap_latents} before it, at strength {plan.overlap_strength:g}"
        windows = f"{len(plan.windows)} windows of latent frames {spans}; {shared}"
    return [
        ("endpoint", plan.endpoint),
        ("model", plan.model),
        ("seed", str(plan.seed)),
        ("take", f"{plan.take_frames} frames, in {windows}"),
        *((f"pass {number}", _pass_text(pass_)) for number, pass_ in enumerate(plan.passes, 1)),
    ]


def _pass_text(pass_: Pass) -> str:
    """Canvas, steps and how often the model is evaluated, per window."""
    steps = pass_.steps - pass_.skip_initial - pass_.skip_final
    of = f" (of {pass_.steps})" if steps != pass_.steps else ""
    each = sorted({pass_.guidance.evaluations(t) for t in pass_.guidance.timesteps})
    evaluations = str(each[0]) if len(each) == 1 else f"{each[0]} to {each[-1]}, by noise level"
    return f"{pass_.canvas[0]}x{pass_.canvas[1]}, {steps} steps{of} per window, evaluations per step: {evaluations}"


def model_json(status: ModelStatus) -> dict[str, Any]:
    return {
        "name": status.card.name,
        "title": status.card.title,
        "licence": status.card.licence,
        "installed": status.installed,
        "missing": list(status.missing),
        "num_bytes": status.num_bytes,
        "parts": {part: str(path) for part, path in status.parts.items()},
    }


def model_rows(models: Sequence[ModelStatus]) -> Rows:
    rows = []
    for status in models:
        if status.installed:
            state = f"here, {bytes_text(status.num_bytes)}"
        elif status.parts:
            state = f"here without its {', '.join(status.missing)}"
        else:
            state = "not here" if status.card.embedded else f"not here: `longtake models pull {status.card.name}`"
        rows.append((status.card.name, f"{state}\n{status.card.title}\n{status.card.licence}"))
    return rows


def check_json(report: CheckReport) -> dict[str, Any]:
    parts = [
        {"part": part.part, "path": str(part.path), "num_parameters": part.num_parameters, "problem": part.problem}
        for part in report.parts
    ]
    return {"target": report.target, "fits": report.fits, "missing": list(report.missing), "parts": parts}


def check_rows(report: CheckReport) -> Rows:
    rows = [
        (part.part, f"{part.problem or f'fits, {part.num_parameters:,} parameters'}\n{part.path}")
        for part in report.parts
    ]
    return [*rows, *((part, "missing") for part in report.missing)]
