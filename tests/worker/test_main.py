"""The worker's process on the embedded models, by its lines."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from longtake.endpoints import ltx2, ltx23, ltxv098
from longtake.media.source import open_source

CLIP = Path(__file__).parents[2] / "examples" / "clip.mp4"
PROMPT = "a red circle moving left quickly over a green clouds background"
SHORT = {"prompt": PROMPT, "num_frames": 41, "resolution": "480p", "first_pass_num_inference_steps": 2, "seed": 3}
LONG = {"prompt": PROMPT, "num_frames": 73, "resolution": "480p", "seed": 3}


class Job:
    """The process, and what it says."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process, self.folder = process, folder

    def ask(self, **message: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def run(
        self, endpoint: str, body: Mapping[str, Any], plan: Mapping[str, Any] | None = None, name: str = "r"
    ) -> None:
        self.ask(
            do="run",
            id=name,
            endpoint=endpoint,
            body=body,
            plan=plan,
            folder=str(self.folder / name),
            files=str(self.folder / "files"),
            key_id="local",
        )

    def told(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        said: dict[str, Any] = json.loads(self.process.stdout.readline())
        return said

    def until(self, *kinds: str, **facts: Any) -> dict[str, Any]:
        """The next message of these kinds with these facts, or the last word on the request; a plan is answered."""
        while True:
            said = self.told()
            if said["say"] == "plan" and "plan" not in kinds:
                self.ask(do="go")
            if said["say"] in ("done", "failed"):
                assert said["say"] in kinds, said
                return said
            if said["say"] in kinds and facts.items() <= said.items():
                return said


@contextmanager
def job(folder: Path) -> Iterator[Job]:
    command = [sys.executable, "-m", "longtake.worker.main"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        one = Job(process, folder)
        one.until("ready")
        yield one
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) in (0, -9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job")
    (folder / "files").mkdir()
    (folder / "files" / ("a" * 32 + ".mp4")).write_bytes(CLIP.read_bytes())
    return folder


OWN = f"http://anywhere:1/cdn/files/{'a' * 32}.mp4"
"""An address of the server's own files, which is not fetched."""


@pytest.fixture(scope="module")
def one(folder: Path) -> Iterator[Job]:
    with job(folder) as one:
        yield one


def test_a_request_becomes_a_file_and_the_endpoint_s_answer(one: Job) -> None:
    body = {
        "prompt": PROMPT,
        "video_url": OWN,
        "num_frames": 34,
        "video_size": "square",
        "seed": 5,
        "use_multiscale": False,
    }
    one.run(ltx23.ENDPOINT.id, body, name="av")
    plan = one.until("plan")["plan"]
    assert plan["seed"] == 5
    one.ask(do="go")
    assert one.until("progress", stage="sampling")["message"].startswith("Sampling new frames")
    done = one.until("done", "failed")
    assert done["say"] == "done", done
    with open_source(Path(done["file"])) as file:
        assert (file.facts.width, file.facts.height, file.facts.num_frames) == (512, 512, 33 + 9)
        assert file.facts.sound is not None
    ltx2.Response.model_validate(done["response"])
    assert done["response"]["seed"] == 5
    assert Decimal(done["billable_units"]) == 9, "512 x 512 x 34 pixels in begun megapixels"
    assert Decimal(done["price_usd"]) == 9 * Decimal("0.001605")
    assert done["new_frames"] == 9
    assert done["timings"]["sampling"] > 0
    assert done["timings"]["inference_time"] >= done["timings"]["sampling"]


@pytest.mark.parametrize(
    ("body", "status", "type", "loc"),
    [
        (
            {"video": {"video_url": "http://127.0.0.1:1/x.mp4"}},
            422,
            "file_download_error",
            ["body", "video", "video_url"],
        ),
        ({"video": {"video_url": "data:video/mp4;base64,aGVsbG8="}}, 422, "unsupported_video_format", None),
        (
            {"video": {"video_url": OWN, "start_frame_num": 40}},
            422,
            "value_error",
            ["body", "video", "start_frame_num"],
        ),
        ({"video": {"video_url": "/etc/hostname"}}, 422, "value_error", ["body", "video", "video_url"]),
    ],
)
def test_what_cannot_be_done_is_told_and_the_next_goes_on(
    one: Job, body: dict[str, Any], status: int, type: str, loc: list[str] | None
) -> None:
    one.run(ltxv098.ENDPOINT.id, {"prompt": PROMPT} | body, name=f"bad-{type}-{len(str(body))}")
    failed = one.until("done", "failed")
    assert (failed["say"], failed["status"], failed["error_type"]) == ("failed", status, type)
    assert loc in (None, failed["body"]["detail"][0]["loc"])
    assert failed["body"]["detail"][0]["msg"] == failed["error"]


def test_a_cancel_is_heard_within_a_step_and_counts_for_its_request_alone(one: Job) -> None:
    one.ask(do="cancel", id="another")
    one.run(ltxv098.ENDPOINT.id, LONG | {"video": {"video_url": OWN}}, name="cancelled")
    heard = one.until("progress", stage="sampling")
    one.ask(do="cancel", id="cancelled")
    steps = 0
    while (said := one.told())["say"] == "progress":
        steps += 1
    assert (said["say"], said["status"], said["error_type"]) == ("failed", 499, "client_cancelled")
    assert steps < 12, heard  # of 24: those that were said before the cancel came, and one


def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(one: Job, folder: Path) -> None:
    body = LONG | {"video": {"video_url": OWN}}
    one.run(ltxv098.ENDPOINT.id, body, name="whole")
    plan = one.until("plan")["plan"]
    assert len(plan["windows"]) > 1
    one.ask(do="go")
    whole = one.until("done")
    with job(folder) as other:
        other.run(ltxv098.ENDPOINT.id, body, name="killed")
        other.until("progress", stage="sampling", window=2)
        other.process.kill()
        other.process.wait()
    with job(folder) as other:
        other.run(ltxv098.ENDPOINT.id, body, plan, name="killed")
        windows = set()
        while (said := other.told())["say"] == "progress":
            if said["stage"] == "sampling":
                windows.add(said["window"])
        assert said["say"] == "done", said
    assert 1 not in windows
    assert Path(said["file"]).read_bytes() == Path(whole["file"]).read_bytes()
    assert len(list((folder / "killed").glob("steps-*"))) == 1


@pytest.mark.parametrize("form", [{"form": 1}, {"family": "another"}, {"form": None}])
def test_a_stored_plan_of_another_form_is_planned_anew(one: Job, form: dict[str, Any]) -> None:
    body = {**SHORT, "video": {"video_url": OWN}}
    one.run(ltxv098.ENDPOINT.id, body, name="first")
    plan = one.until("plan")["plan"]
    one.ask(do="cancel", id="first")
    one.until("failed")
    name = f"later-{next(iter(form))}"
    one.run(ltxv098.ENDPOINT.id, body, plan | form, name=name)
    again = one.until("plan", "done", "failed")
    assert (again["say"], again["plan"]) == ("plan", plan), "told to the server once more, to be stored"
    one.ask(do="go")
    assert one.until("done", "failed")["say"] == "done"


def test_another_plan_does_not_go_on_from_the_steps_of_the_first(one: Job, folder: Path) -> None:
    body = {**SHORT, "video": {"video_url": OWN}}
    for seed in (3, 4):
        one.run(ltxv098.ENDPOINT.id, body | {"seed": seed}, name="twice")
        assert one.until("progress", "done", "failed", stage="sampling")["say"] == "progress"
        assert one.until("done", "failed")["response"]["seed"] == seed
    assert len(list((folder / "twice").glob("steps-*"))) == 2
    one.run(ltxv098.ENDPOINT.id, body | {"seed": 4}, name="twice")
    while (said := one.until("progress", "done", "failed"))["say"] == "progress":
        assert said["stage"] != "sampling", "the same plan goes on from its finished steps"
    assert said["say"] == "done"
