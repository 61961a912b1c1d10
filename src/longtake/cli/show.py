"""A finished video and the models as people read them, and as JSON."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtake.cli.console import Rows, bytes_text
from longtake.cli.inspection import Joint, inspect
from longtake.cli.plans import frames_text, price_text, rate_text
from longtake.families import plan_to_json
from longtake.media.source import open_source
from longtake.models.checks import CheckReport
from longtake.models.download import ModelStatus

if TYPE_CHECKING:
    from longtake.runner import Result


@dataclass(frozen=True)
class Outcome:
    """A finished video, and its joint where that was asked for."""

    result: "Result"
    joint: Joint | None
    notes: tuple[str, ...]

    @classmethod
    def of(cls, result: "Result", sheet: Path | None) -> "Outcome":
        """The outcome of a result; with a `sheet` its joint is measured and drawn there."""
        if sheet is None:
            return cls(result, None, result.notes)
        with open_source(result.path) as file:
            joint = inspect(file, result.plan, sheet)
        nothing = "There is no joint to inspect: too few of the source's own frames or of new ones."
        return cls(result, joint, result.notes if joint else (*result.notes, nothing))

    def to_json(self) -> dict[str, Any]:
        """The endpoint's response, and beside it the prompt used, the plan, the notes and the joint."""
        result = self.result
        path = result.path.resolve()
        inline = result.plan.sync_mode
        response = result.response(_data_uri(path, result.content_type) if inline else path.as_uri())
        document = response | {"prompt": result.prompt, "plan": plan_to_json(result.plan), "notes": list(self.notes)}
        return document | ({"joint": self.joint.to_json()} if self.joint else {})

    def rows(self) -> Rows:
        result, facts, plan = self.result, self.result.facts, self.result.plan
        rows = [
            ("file", f"{result.path} ({bytes_text(result.file_size)})"),
            ("size", f"{facts.width}x{facts.height}"),
            ("frames", frames_text(plan)),
            ("rate", rate_text(facts.rate)),
            ("duration", f"{facts.duration_s:.2f} s, {'with' if result.has_sound else 'without'} sound"),
            ("model", plan.model),
            ("seed", str(plan.seed)),
            ("price", price_text(plan)),
        ]
        if result.prompt != plan.prompt:
            rows.append(("prompt", result.prompt))
        rows += [("note", note) for note in self.notes]
        return rows + (self.joint.rows() if self.joint else [])


def _data_uri(path: Path, content_type: str) -> str:
    return f"data:{content_type};base64,{base64.b64encode(path.read_bytes()).decode()}"


def model_json(status: ModelStatus) -> dict[str, Any]:
    return {
        "name": status.card.name,
        "title": status.card.title,
        "licence": status.card.licence,
        "installed": status.installed,
        "missing": list(status.missing),
        "num_bytes": status.num_bytes,
        "parts": {part: str(path) for part, path in status.parts.items()},
        "adapters": {name: str(path) for name, path in status.adapters.items()},
    }


def model_rows(models: Sequence[ModelStatus]) -> Rows:
    rows = []
    for status in models:
        if status.installed:
            state = f"here, {bytes_text(status.num_bytes)}"
            if status.adapters:
                state += f", with its adapters {', '.join(status.adapters)}"
        elif status.parts:
            state = f"here without its {', '.join(status.missing)}"
        else:
            state = "not here" if status.card.embedded else f"not here: `longtake models pull {status.card.name}`"
        rows.append((status.card.name, f"{state}\n{status.card.title}\n{status.card.licence}"))
    return rows


def check_json(report: CheckReport) -> dict[str, Any]:
    parts = [
        {
            "part": part.part,
            "path": str(part.path),
            "num_parameters": part.num_parameters,
            "problem": part.problem,
            "compared": part.compared,
        }
        for part in report.parts
    ]
    return {"target": report.target, "fits": report.fits, "missing": list(report.missing), "parts": parts}


def check_rows(report: CheckReport) -> Rows:
    rows = [(part.part, f"{part.sentence()}\n{part.path}") for part in report.parts]
    return [*rows, *((part, "missing") for part in report.missing)]
