"""Requests on a simulated GPU: everything is where the work on it needs it, and the bits are those of the CPU."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from longtake.endpoints import ltx23, ltxv097, ltxv098
from longtake.endpoints.validation import parse
from longtake.families.ltx2.plan import LTX2Plan
from longtake.families.ltxv.plan import LTXVPlan
from longtake.models import compiled, fp8, memory
from longtake.models.checkpoints import Checkpoint
from longtake.models.choice import ModelChoice, named_model
from longtake.models.parts import INSTALLED, InstalledParts, load_parts
from longtake.models.placement import part_bytes
from longtake.models.registry import LTXVCard, card, missing
from longtake.planning import Overrides
from longtake.plans import Plan
from longtake.prepare import Fetcher, prepare
from longtake.runner import LOW_MEMORY_NOTE, Result, Runner
from longtake.sampling import tiling
from longtake.sampling.preview import Preview
from longtake.sampling.resume import Resume
from longtake.settings import Settings, settings
from longtake.video import Progress, ignore_progress
from tests.simulated_gpu import Gpus, can_simulate, simulated_gpus
from tests.test_runner_ltx2 import NEW, QUICK, film

pytestmark = [
    pytest.mark.skipif(not can_simulate(), reason="GPUs are simulated by torch for CPUs alone"),
    pytest.mark.usefixtures("one_thread", "forked_decoders"),
]


@dataclass(frozen=True)
class Case:
    """A request: its endpoint, its model and its fields, and the settings that differ from the defaults.

    total: the bytes of the GPU's memory.
    is_compiled: True if the GPU computes compiled blocks, so that `fp8` means products in 8 bits.
    """

    module: Any
    model: str
    fields: Mapping[str, Any]
    changes: Mapping[str, Any] = field(default_factory=dict)
    total: int = 80 * 10**9
    is_compiled: bool = False

    def but(
        self, fields: Mapping[str, Any], total: int = 80 * 10**9, is_compiled: bool = False, **changes: Any
    ) -> "Case":
        own = {**self.fields, **fields}
        return replace(self, fields=own, changes=changes, total=total, is_compiled=is_compiled)


DISTILLED = {"use_multiscale": True, "distill_lora_first_pass_scale": 0.3}
GUIDED = {"video_cfg_scale": 3, "audio_cfg_scale": 7, "video_stg_scale": 1, "video_modality_scale": 3}
BACKWARD = {"extend_direction": "backward", "end_image_url": "end.png"}
LTX2 = Case(ltx23, "ltx2-tiny", QUICK)
LTXV = Case(ltxv098, "ltxv-tiny", {"first_pass_num_inference_steps": 3})
CASES = {
    "2.3 in two passes, with a text encoder that leaves the GPU": LTX2.but(DISTILLED, offload="none", total=4 * 10**8),
    "2.3 with guidance in fp8": LTX2.but(GUIDED, quantise="fp8"),
    "0.9.8 with the detail pass, one part at a time": LTXV.but({"enable_detail_pass": True}, offload="model"),
    "0.9.8, compiled, products in fp8, streamed": LTXV.but({}, is_compiled=True, quantise="fp8", offload="group"),
    "0.9.7": Case(ltxv097, "ltxv-tiny", {"num_inference_steps": 3}),
}
LONG = {
    "2.3 with guidance, compiled, products in fp8": LTX2.but(GUIDED, is_compiled=True, quantise="fp8"),
    "2.3 with adapters beside products in fp8, compiled, streamed": LTX2.but(
        DISTILLED, is_compiled=True, quantise="fp8", offload="group"
    ),
    "2.3 with guidance in float16, compiled": LTX2.but(GUIDED, is_compiled=True, dtype="float16"),
    "0.9.8 in float16": LTXV.but({}, dtype="float16"),
    "2.3 in two passes with adapters, one part at a time": LTX2.but(DISTILLED, offload="model"),
    "2.3 backward in bfloat16, streamed": LTX2.but({**BACKWARD, **DISTILLED}, dtype="bfloat16", offload="group"),
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("source") / "clip.mov", sound=True)


def _settings(case: Case, device: str) -> Settings:
    return settings().model_copy(update={"device": device, **case.changes})


def _chosen(case: Case, here: Settings) -> ModelChoice:
    """The model of a case. Where it is an LTX-Video model, its card is as those of the published ones."""
    chosen = named_model(case.model, here)
    if isinstance(chosen.card, LTXVCard):
        return replace(chosen, card=replace(chosen.card, conditioning_noise_scale=0.15))
    return chosen


def _quick(plan: Plan) -> Plan:
    """The plan with fewer steps or smaller frames than a request may have. The last pass makes 128x64 pixels."""
    if isinstance(plan, LTX2Plan):
        return replace(plan, steps=3, width=128, height=64, canvases=_canvases(plan.num_passes))
    assert isinstance(plan, LTXVPlan)
    canvases = _canvases(len(plan.passes))
    passes = tuple(replace(each, canvas=canvas) for each, canvas in zip(plan.passes, canvases, strict=True))
    return replace(plan, width=128, height=64, passes=passes)


def _canvases(num_passes: int) -> tuple[tuple[int, int], ...]:
    return tuple((128 // 2**later, 64 // 2**later) for later in reversed(range(num_passes)))


def _run(case: Case, runner: Runner, here: Settings, clip: Path, folder: Path, **options: Any) -> Result:
    if missing(card(case.model), here):
        pytest.skip("the weights of the embedded models are not in the package")
    own = {"video_url": str(clip)}
    body = {"resolution": "480p", "video": own} if case.model == "ltxv-tiny" else own
    fields = dict(case.fields)
    if "end_image_url" in fields:
        fields["end_image_url"] = str(folder / "end.png")
        Image.new("RGB", (112, 64), (220, 40, 40)).save(fields["end_image_url"])
    request = parse(case.module.Request, {"prompt": "a red circle", "seed": 3, **body, **fields})
    overrides = Overrides(new_frames=NEW, output="X264 (.mp4)", quality="high", write_mode="fast")
    chosen, local = _chosen(case, here), Fetcher(allow_local=True)
    with prepare(case.module.ENDPOINT, request, chosen, here, overrides=overrides, fetcher=local) as job:
        return runner.run(replace(job, plan=_quick(job.plan)), folder / "out.mp4", **options)


class FirstStep:
    """Receives a preview of the first step, and counts how often the host has waited for a GPU before each step."""

    def __init__(self, gpus: Gpus | None = None) -> None:
        self.pictures: list[bytes] = []
        self.waits: list[int] = []
        self._gpus = gpus

    def is_due(self) -> bool:
        return not self.pictures

    def show(self, preview: Preview, cost_s: float) -> None:
        self.pictures.append(preview.pictures.tobytes())

    def on_progress(self, progress: Progress) -> None:
        if progress.kind == "sampling" and progress.pass_number == 1 and self._gpus is not None:
            self.waits.append(sum(crossing.waits for crossing in self._gpus.crossings))


@pytest.mark.parametrize(
    "case",
    [
        *(pytest.param(case, id=name) for name, case in CASES.items()),
        *(pytest.param(case, id=name, marks=pytest.mark.soak) for name, case in LONG.items()),
    ],
)
def test_the_bits_are_those_of_the_cpu(case: Case, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second GPU does the work, and nothing happens on the first one. No step makes the host wait, except the first
    one, of which a preview is made, and those with offloaded weights. Saved windows are read onto the GPU."""
    here, resume = _settings(case, "cpu"), Resume(tmp_path)
    expected = FirstStep()
    with pytest.MonkeyPatch.context() as on_cpu:
        if case.is_compiled and here.quantise == "fp8":  # as on a GPU; otherwise a CPU stores weights in 8 bits
            on_cpu.setattr(fp8, "choose_mode", lambda *_, **__: ("products", ""))
        video = _run(case, Runner(here), here, clip, tmp_path, previews=expected).path.read_bytes()
    here = _settings(case, "cuda:1")
    with simulated_gpus(monkeypatch, total=case.total, forbidden=frozenset({0})) as gpus:
        if case.is_compiled:
            monkeypatch.setattr(compiled, "obstacle", lambda device: None)
        runner, first = Runner(here), FirstStep(gpus)
        options: dict[str, Any] = {"previews": first, "on_progress": first.on_progress, "resume": resume}
        assert _run(case, runner, here, clip, tmp_path, **options).path.read_bytes() == video
        assert (", compiled" in runner.load(_chosen(case, here).card).arithmetic) == case.is_compiled
        assert first.pictures == expected.pictures
        assert len(first.waits) > 1
        assert case.changes.get("offload", "none") != "none" or len({*first.waits[1:]}) == 1
        assert _run(case, runner, here, clip, tmp_path, resume=resume).path.read_bytes() == video
        runner.release()
        assert gpus.used < 10**4, "all weights have left the GPU"


def test_a_request_that_runs_out_of_memory_is_made_again(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory runs out while a window is sampled with adapters merged into the weights."""
    case = LTX2.but({"distill_lora_first_pass_scale": 0.3, "generate_audio": False})
    here = _settings(case, "cpu")
    expected = _run(case, Runner(here), here, clip, tmp_path).path.read_bytes()
    here = _settings(case, "cuda:1")
    with simulated_gpus(monkeypatch) as gpus:
        runner = Runner(here)
        runner.load(_chosen(case, here).card)
        before = gpus.allocations
        assert _run(case, runner, here, clip, tmp_path).path.read_bytes() == expected
        failing = gpus.allocations + (gpus.allocations - before) // 2
        gpus.fails_at, used = lambda number: number == failing, gpus.used
        result = _run(case, runner, here, clip, tmp_path)
        assert gpus.allocations > failing
        assert LOW_MEMORY_NOTE in result.notes
        assert result.path.read_bytes() == expected
        assert gpus.used == used, "nothing of the failed attempt is left"
        runner.release()


def test_a_slot_plans_for_its_share_of_the_gpu(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sizes of tiles follow from the share, and the text that a resumed request compares names the slots."""
    case = LTXV.but({}, slots=("cuda:0", "cuda:1", "cuda:1@ltx"))
    here, planned = _settings(case, "cuda:1"), set[int | None]()
    choose = tiling.choose

    def noted(vae: Any, canvas: Any, num_frames: int, device: torch.device) -> Any:
        planned.add(memory.device_bytes(device))
        return choose(vae, canvas, num_frames, device)

    monkeypatch.setattr(tiling, "choose", noted)
    with simulated_gpus(monkeypatch, total=8 * 10**9):
        runner = Runner(here)
        _run(case, runner, here, clip, tmp_path)
        assert planned == {4 * 10**9}
        assert "Simulated GPU, which 2 slots share, " in runner.load(_chosen(case, here).card).arithmetic


@pytest.mark.parametrize(("share", "place"), [(1.5, "cuda:1"), (0.99, "cpu")])
def test_weights_are_rounded_to_8_bits_on_the_gpu_if_it_has_room(
    share: float, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise they are loaded into host memory, and copied back there after the GPU has rounded them."""
    loaded: dict[str, str] = {}

    class Noted(InstalledParts):
        def load(self, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device | str) -> Any:
            loaded[checkpoint.part] = str(device)
            return super().load(checkpoint, dtype, device)

    here = settings().model_copy(update={"device": "cuda:1", "quantise": "fp8", "offload": "none"})
    if missing(card("ltxv-tiny"), here):
        pytest.skip("the weights of the embedded models are not in the package")
    unrounded = sum(part_bytes(INSTALLED.open(card("ltxv-tiny"), here), torch.float32, "none").values())
    with simulated_gpus(monkeypatch, total=int(share * unrounded)):
        parts = load_parts(card("ltxv-tiny"), here, ignore_progress, Noted()).parts
        assert {weight.device for weight in parts["transformer"].parameters()} == {torch.device("cuda:1")}
    assert (loaded["transformer"], loaded["vae"]) == (place, "cuda:1")
