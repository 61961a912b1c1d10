"""Parses arguments as the command line does, into a request and its plan, without running anything."""

from dataclasses import dataclass
from typing import Any

import typer

from longtake import endpoints
from longtake.cli import app
from longtake.cli.options import json_input, signature
from longtake.endpoints import Endpoint
from longtake.media.formats import OutputType
from longtake.parameters import LocalRequest, UserInput, local_request
from longtake.plans import Plan
from longtake.settings import Settings
from tests.endpoints.planning import CLIP

V097, V098, V23 = (endpoints.endpoint(name) for name in ("0.9.7", "0.9.8", "2.3"))
LORAS = endpoints.endpoint("2.3-lora")


@dataclass(frozen=True)
class OutputFile:
    """The format of the output file, as `extend` derives it from its own options."""

    type: OutputType | None = None
    quality: str | None = None
    write_mode: str | None = None


NO_FILE = OutputFile()


def named(case: Any) -> str:
    return getattr(case, "flag", getattr(case, "name", "case"))


def call_of(*args: str, endpoint: Endpoint[Any, Any] = V098, file: OutputFile = NO_FILE) -> LocalRequest:
    """The request of `longtake plan clip.mp4 --prompt sea ARGS`, as the command parses it, for an output file."""
    command: Any = typer.main.get_command(app)
    plan = command.commands["plan"]
    needed = ["--lora", "a"] if endpoint is LORAS and "--lora" not in args else []
    words = ["clip.mp4", "--prompt", "sea", "--endpoint", endpoint.id, *needed, *args]
    with plan.make_context("plan", words) as context:
        params = context.params
        fields = {name: params[name] for name in signature(endpoint.id).parameters}
        fields |= {"new_frames": params["new_frames"], "quality": file.quality, "write_mode": file.write_mode}
        given = UserInput(fields, params["source"], json_input(params["json_input"]), file.type)
        return local_request(endpoints.endpoint(params["endpoint"]), given, Settings(), params["model"])


def plan_of(call: LocalRequest) -> Plan:
    """The plan of a call on a clip of 100 frames."""
    options = call.overrides.apply(call.endpoint.options(call.request, CLIP))
    plan: Plan = call.endpoint.plan(options, CLIP, call.model.card, 7, {})
    return plan
