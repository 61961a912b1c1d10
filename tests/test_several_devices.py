"""Requests that several devices carry out together: the results are those of one device, also after errors."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from longtake.endpoints import ltxv097
from longtake.errors import Cancelled
from longtake.models import memory
from longtake.models.replicas import Copy
from longtake.runner import Result, Runner
from longtake.sampling.resume import Resume
from longtake.video import Progress
from tests.simulated_gpu import can_simulate, simulated_gpus
from tests.test_on_gpu import LTX2, Case, _chosen, _run, _settings
from tests.test_runner_ltx2 import film

LTX2_GUIDED = LTX2.but(
    {
        "video_cfg_scale": 3,
        "audio_cfg_scale": 7,
        "video_stg_scale": 1,
        "video_modality_scale": 3,
        "use_multiscale": True,
        "distill_lora_first_pass_scale": 0.3,
    }
)
"""Four predictions in the first pass, one in the second, and an adapter with another strength in each."""

pytestmark = pytest.mark.usefixtures("one_thread")

CASES = {
    "2.3 with merged adapters": (LTX2_GUIDED, "cpu+cpu", 1e-4),
    "0.9.7": (Case(ltxv097, "ltxv-tiny", {"num_inference_steps": 3}), "cpu+cpu+cpu", 0),
}
"""A request, devices, and the largest difference. One device makes four predictions of 2.3 in one evaluation, and those
of 0.9.7 always one by one, so that these have the same bits."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("source") / "clip.mov", sound=True)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """The files that several CPUs made, by the name of the case. A later test need not make them again."""
    return {}


def _sampled(folder: Path) -> dict[str, Tensor]:
    """The tensors of all windows that were saved in a folder."""
    files = folder.glob("*.safetensors")
    return {f"{path.name} {name}": tensor for path in files for name, tensor in load_file(path).items()}


@pytest.mark.parametrize("name", CASES)
def test_the_result_is_that_of_one_device(
    name: str, clip: Path, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, devices, most = CASES[name]
    one, together = (_settings(case, device) for device in ("cpu", devices))
    folders = alone, fresh, broken = [tmp_path / name for name in ("alone", "fresh", "broken")]
    for folder in folders:
        folder.mkdir()
    _run(case, Runner(one), one, clip, alone, resume=Resume(alone))
    runner = Runner(together)
    model = runner.load(_chosen(case, together).card)
    copy, evaluations = model.replicas.copies[-1].transformer, list[int]()
    before = [weight.clone() for weight in copy.parameters()]

    def run(folder: Path, **options: Any) -> Result:
        return _run(case, runner, together, clip, folder, resume=Resume(folder), **options)

    def fails(*_: Any, **__: Any) -> None:
        evaluations.append(1)
        raise RuntimeError("the copy failed")

    with monkeypatch.context() as patched:
        patched.setattr(copy, "forward", fails)
        with pytest.raises(RuntimeError, match="the copy failed"):
            run(broken)
    assert evaluations == [1], "the next step does not begin"

    def cancel(progress: Progress) -> None:
        if progress.kind == "sampling" and progress.step == 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(broken, on_progress=cancel)
    assert all(torch.equal(*pair) for pair in zip(copy.parameters(), before, strict=True))

    result = run(fresh)
    files[name] = result.path.read_bytes()
    assert run(fresh).notes == result.notes
    expected, found = _sampled(alone), _sampled(fresh)
    assert expected.keys() == found.keys() != set()
    assert max(float((found[key] - expected[key]).abs().max()) for key in expected) <= most
    (note,) = [note for note in run(alone).notes if "interrupted" in note]
    assert (
        f"computed in {model.arithmetic.replace(f'{model.replicas.count} x ', '')}, this one in {model.arithmetic}"
        in note
    )


def _inline(self: Copy, work: Callable[..., Any], *arguments: Any) -> "Future[Any]":
    """Does the work of a copy's thread in the present one."""
    future = Future[Any]()
    with memory.current_gpu(self.device):
        future.set_result(work(*arguments))
    return future


@pytest.mark.skipif(not can_simulate(), reason="GPUs are simulated by torch for CPUs alone")
def test_two_gpus_give_the_bits_of_two_cpus(
    clip: Path, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each tensor is on the GPU that works with it. The simulated GPUs know no threads."""
    here = _settings(LTX2_GUIDED, "cpu+cpu")
    expected = files.get("2.3 with merged adapters")
    if expected is None:
        expected = _run(LTX2_GUIDED, Runner(here), here, clip, tmp_path).path.read_bytes()
    monkeypatch.setattr(Copy, "start", _inline)
    here = _settings(LTX2_GUIDED, "cuda:1+cuda:0")
    with simulated_gpus(monkeypatch) as gpus:
        runner = Runner(here)
        assert _run(LTX2_GUIDED, runner, here, clip, tmp_path).path.read_bytes() == expected
        assert {one.kind for one in gpus.crossings} >= {"between devices"}
        runner.release()
        assert gpus.used < 10**4, "all weights have left the GPUs"
