"""Twenty varied requests, compared with a record of their plans, responses and pictures.

Requests whose features others of the same family also cover are carried out only in the soak run, and planned in every
run. Plans and notes were recorded with the version `made_by`; `as_recorded` lists what changed since. Pictures,
and the windows of LTX-2.3 plans, were recorded again when a later version changed them.
"""

import json
import platform
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.record.replay import RECORD, Replay, thumbnails

DOCUMENT: dict[str, Any] = json.loads(RECORD.read_text())
REQUESTS: list[dict[str, Any]] = DOCUMENT["requests"]
NAMES = [request["name"] for request in REQUESTS]

COVERED_BY_OTHERS = {
    "097 few steps, from frame 24 on",
    "098 as it is by default",
    "097 on the command line, 16 steps",
    "098 detail pass",
    "098 edges as guidance",
    "098 on the command line",
    "098 on the command line, detail pass, backwards, mov",
    "098 on the command line, frame_rate, a LoRA, GIF",
    "098 on the command line, num_frames, webm",
    "098 several windows, colours held",
    "23 backward in two windows, less strength, own size and rate, mov",
    "23 forward as it is by default, at a preset size, as a data URI",
    "23 on the command line, all its steps",
    "23 on the command line, a LoRA, backward, small mp4",
    "23 two windows, picture alone, accelerated, gradient estimation",
}
"""Requests whose features the other requests, or the tests of endpoints and runner, carry out too."""

MOST_SHIFT, MEAN_SHIFT, LEVEL_DB = 8, 0.35, 0.2
"""Largest and mean difference of reduced frames (of 255) and of sound levels on another processor, which rounds sums
differently: measured 4, 0.13 and 0.1 dB. Three values that differ by 1 before encoding became 6 and 0.3 in the files.
Another seed differs by 23 and 0.37, another adapter by 51 and 0.58."""


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    return Replay(tmp_path_factory.mktemp("record"), DOCUMENT)


def test_the_names_of_covered_requests_exist() -> None:
    assert set(NAMES) > COVERED_BY_OTHERS


@pytest.mark.parametrize(
    "request_", [one for one in REQUESTS if one["name"] in COVERED_BY_OTHERS], ids=lambda one: one["name"]
)
def test_a_request_of_the_soak_run_is_planned_as_recorded(request_: dict[str, Any], replay: Replay) -> None:
    check_plan(replay.plan(request_), request_)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(one, id=one["name"], marks=[pytest.mark.soak] if one["name"] in COVERED_BY_OTHERS else [])
        for one in REQUESTS
    ],
)
def test_a_request_is_carried_out_as_recorded(request_: dict[str, Any], replay: Replay) -> None:
    made = replay.result(request_)
    check_plan(made["plan"], request_)
    assert [note for note in made["notes"] if note not in made["plan"]["notes"]] == request_["notes"]
    assert made["has_sound"] == request_["has_sound"]
    assert without_size(made["response"]) == without_size(request_["response"])
    check_file(made["file"], request_["file"])
    if same_processor():
        assert made["encoder_sha256"] == request_["encoder_sha256"]


def check_plan(plan: dict[str, Any], request: dict[str, Any]) -> None:
    assert as_recorded(plan) == without_price(request["plan"])
    assert Fraction(plan["price_usd"]) == price(request, plan)


def as_recorded(plan: dict[str, Any]) -> dict[str, Any]:
    """Returns a plan in the recorded form.

    There, adapters are spread over `loras`, `camera` and `scales`, plans of 0.9.x have no end image and no file format,
    and some fields have other names.
    """
    old: dict[str, Any] = recorded_names(plan, RECORDED_NAMES[plan["family"]])
    for name in ("adapters", "form", "notes", "unit"):
        del old[name]
    del old["billed_units"], old["billed_frames"], old["price_usd"], old["context"]["shift"]
    adapters = plan["adapters"]
    old["loras"] = [
        {"path": one["source"], "scale": one["scales"][0], "weight_name": one["weight_name"]}
        for one in adapters
        if not one["own"]
    ]
    if "direction" in plan:
        camera = next((one for one in adapters if one["source"].startswith("camera_")), None)
        distill = next((one["scales"] for one in adapters if one["source"] == "distill"), [0.0, 0.0])
        old["camera"] = None if camera is None else camera["source"].removeprefix("camera_")
        old["camera_scale"] = 1 if camera is None else camera["scales"][0]
        del old["canvases"]
        old["scales"] = [{"canvas": c, "distill": s} for c, s in zip(plan["canvases"], distill, strict=False)]
    else:
        for name in ("end_image", "end_image_strength", "output", "quality", "write_mode", "sync_mode"):
            del old[name]
    return old


RECORDED_NAMES = {
    "ltxv": {"sampled_frames": "take_frames"},
    "ltx2": {"sampled_frames": "take_frames", "windows": "extensions"},
}
"""The recorded name of each field that was renamed, by family."""


def recorded_names(value: Any, names: dict[str, str]) -> Any:
    """JSON whose keys have their recorded names."""
    match value:
        case list():
            return [recorded_names(one, names) for one in value]
        case dict():
            return {names.get(name, name): recorded_names(one, names) for name, one in value.items()}
    return value


def price(request: dict[str, Any], plan: dict[str, Any]) -> Fraction:
    """Returns the recorded price, or for megapixels the price with the context's frames, which is billed since."""
    if plan["unit"] != "megapixels":
        return Fraction(request["plan"]["price_usd"])
    lora = any(one["source"] != "distill" for one in plan["adapters"])
    megapixels: int = -(-plan["width"] * plan["height"] * plan["billed_frames"] // 1_000_000)
    return megapixels * (Fraction("0.001805") if lora else Fraction("0.001605"))


def without_price(plan: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in plan.items() if name != "price_usd"}


def without_size(response: dict[str, Any]) -> dict[str, Any]:
    """Returns the response without the file size: encoders write other bytes on another number of cores."""
    video = {name: value for name, value in response["video"].items() if name != "file_size"}
    return response | {"video": video}


def check_file(made: dict[str, Any], recorded: dict[str, Any]) -> None:
    for name in ("num_frames", "width", "height", "rate"):
        assert made[name] == recorded[name], name
    shift = np.abs(thumbnails(made) - thumbnails(recorded))
    assert shift.max() <= MOST_SHIFT
    assert shift.mean() <= MEAN_SHIFT
    if recorded["sound"] is None:
        assert made["sound"] is None
        return
    assert made["sound"]["num_samples"] == recorded["sound"]["num_samples"]
    assert made["sound"]["levels"] == pytest.approx(recorded["sound"]["levels"], abs=LEVEL_DB)


def same_processor() -> bool:
    """True if processor and number of threads are those of the record, so that every bit must be equal."""
    cpu = DOCUMENT["cpu"]
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = names[0].partition(":")[2].strip() if names else platform.processor()
    capability = torch.backends.cpu.get_cpu_capability()
    return (capability, model, torch.get_num_threads()) == (cpu["capability"], cpu["model"], cpu["threads"])
