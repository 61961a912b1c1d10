"""Describes a finished video as rows for a terminal and as a JSON document."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtake.cli.console import Rows, bytes_text
from longtake.cli.inspection import InspectedJoint, inspect_joint
from longtake.media.source import open_source
from longtake.plan_text import frames_text, plan_document, price_text, rate_text

if TYPE_CHECKING:
    from longtake.runner import Result

NO_JOINT = "There is no joint to inspect: too few of the source's own frames or of new ones."


@dataclass(frozen=True)
class FinishedVideo:
    """A finished video and, with the option `--inspect`, its measured joint (where source and new frames meet).

    result: what the run returned: the file, its facts and the plan.
    joint: the measured joint. None without `--inspect`, or if the video has no joint that can be measured.
    notes: sentences for the user: the notes of `result` and, if `--inspect` found no joint, one that says so.
    seconds: how long the whole work took.
    """

    result: "Result"
    joint: InspectedJoint | None
    notes: tuple[str, ...]
    seconds: float

    @classmethod
    def of(cls, result: "Result", sheet: Path | None, seconds: float) -> "FinishedVideo":
        """Makes a FinishedVideo from the result of a run. Measures and draws its joint if `sheet` is not None.

        result: what the run returned.
        sheet: path to which the picture of the joint (where source and new frames meet) is written.
        seconds: how long the run took.
        """
        if sheet is None:
            return cls(result, None, result.notes, seconds)
        with open_source(result.path) as file:
            joint = inspect_joint(file, result.plan, sheet)
        return cls(result, joint, result.notes if joint else (*result.notes, NO_JOINT), seconds)

    def to_json(self) -> dict[str, Any]:
        """Returns the JSON document that `extend --json` prints: the endpoint's response with additional keys.

        prompt: the prompt as used, after expansion.
        plan, notes: the plan, and sentences for the user.
        model: the name of the model that made the video.
        stands_in_for: the name of the published model that is not installed, if a small model made the video in its
            place; otherwise None.
        seconds: how long the work took.
        joint: the figures of the joint (where source and new frames meet); only if it was measured.
        """
        result = self.result
        path = result.path.resolve()
        inline = result.plan.sync_mode
        response = result.response(_data_uri(path, result.content_type) if inline else path.as_uri())
        document = response | {"prompt": result.prompt, "plan": plan_document(result.plan), "notes": list(self.notes)}
        made_by = {"model": result.model.card.name, "stands_in_for": result.model.stands_in_for}
        document |= made_by | {"seconds": round(self.seconds, 3)}
        return document | ({"joint": self.joint.to_json()} if self.joint else {})

    def rows(self) -> Rows:
        """Returns rows (name, value) for a terminal: facts of the file, notes and, if measured, the figures of the
        joint (where source and new frames meet)."""
        result, facts, plan = self.result, self.result.facts, self.result.plan
        stands_for = result.model.stands_in_for
        rows = [
            ("file", f"{result.path} ({bytes_text(result.file_size)})"),
            ("size", f"{facts.width}x{facts.height}"),
            ("frames", frames_text(plan)),
            ("rate", rate_text(facts.rate)),
            ("duration", f"{facts.duration_s:.2f} s, {'with' if result.has_sound else 'without'} sound"),
            ("model", plan.model if stands_for is None else f"{plan.model}, which stands in for {stands_for}"),
            ("seed", str(plan.seed)),
            ("on fal", price_text(plan)),
            ("time", f"{self.seconds:.1f} s"),
        ]
        if result.prompt != plan.prompt:
            rows.append(("prompt", result.prompt))
        rows += [("note", note) for note in self.notes]
        return rows + (self.joint.rows() if self.joint else [])


def _data_uri(path: Path, content_type: str) -> str:
    return f"data:{content_type};base64,{base64.b64encode(path.read_bytes()).decode()}"
