"""The check of the package's numbers on a device: it passes on a CPU, goes on after a stop, and sees wrong results."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.gpu import oracles
from bench.gpu.__main__ import main
from bench.gpu.figures import Figure, read_figures
from bench.oracle import ltx2, ltxv
from bench.oracle.case import Case
from bench.oracle.cases import CHECKS, COMPILED, MOST, Check
from bench.oracle.ways import Way
from tests.conftest import load_case
from tests.simulated_gpu import can_simulate, simulated_gpus

CPU = torch.device("cpu")


SIMILAR = {
    *(f"ltx2_extend_{name}" for name in ("forward_s07", "forward_ge", "forward_ancestral", "backward_s08")),
    *(f"ltxv_extend_single_{name}" for name in ("s06", "keyframe")),
    *("ltxv_extend_two_scale_dev", "ltx2_two_stage"),
}
"""Checks that compute with the parts and functions of other ones. The families' tests compute all cases in float32."""


@pytest.mark.parametrize(
    "left_out", [pytest.param(SIMILAR, id="short"), pytest.param(set(), id="all", marks=pytest.mark.soak)]
)
def test_every_case_passes_on_a_cpu(
    left_out: set[str],
    oracle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checks = [check for check in CHECKS if check.name not in left_out]
    assert len(checks) == len(CHECKS) - len(left_out)
    monkeypatch.setattr(oracles, "CHECKS", checks)
    out = tmp_path / "oracles.json"
    main(["oracles", "--quick", "--out", str(out)])
    _, figures = read_figures(out)
    assert list(figures) == [check.name for check in checks if (oracle / check.folder).exists()]
    assert all(figure.is_right for figure in figures.values())
    printed = capsys.readouterr().out
    assert "without TF32 (products ieee, convolutions ieee" in printed
    main(["table", str(out)])
    machine, _, rows = capsys.readouterr().out.strip().partition("\n\n")
    assert machine.startswith("Machine: device CPU")
    assert rows in printed


def test_a_run_goes_on_after_a_stop(oracle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, made = tmp_path / "oracles.json", list[str]()
    two = [Check(name, ltxv.fusing, case="ltxv_long_chunks", in_bfloat16=False) for name in ("first", "second")]
    monkeypatch.setattr(oracles, "CHECKS", two)

    def stopped(check: Check, *rest: Any) -> Figure:
        if made == ["first"]:
            made.append("stopped")
            raise KeyboardInterrupt
        made.append(check.name)
        return Figure(1.0, is_right=True)

    monkeypatch.setattr(oracles, "result", stopped)
    for _ in range(2):
        with suppress(KeyboardInterrupt):
            main(["oracles", "--quick", "--out", str(out)])
    assert made == ["first", "stopped", "second"]
    assert list(read_figures(out)[1]) == ["first", "second"]


def doubled(case: Case) -> Iterator[tuple[str, Tensor]]:
    for name, value in ltxv.forward(case):
        yield name, value * (1.001 if case.way == "package" and name == "uniform" else 1)


def coarse(case: Case) -> Iterator[tuple[str, Tensor]]:
    for name, value in ltxv.forward(case):
        is_own = case.way == "package" and case.dtype == torch.bfloat16
        yield name, value * 0.98 if is_own else value


def not_numbers(case: Case) -> Iterator[tuple[str, Tensor]]:
    for name, value in ltxv.forward(case):
        yield name, value * (float("nan") if name == "per_token" else 1)


@pytest.mark.parametrize("compute", [doubled, coarse, not_numbers])
def test_a_wrong_result_ends_the_command_with_status_1(
    compute: Any, oracle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checks = [Check("right", ltxv.forward, case="ltxv_transformer"), Check("wrong", compute, case="ltxv_transformer")]
    monkeypatch.setattr(oracles, "CHECKS", checks)
    for _ in range(2):
        with pytest.raises(SystemExit, match="These results are wrong: wrong"):
            main(["oracles", "--quick", "--out", str(tmp_path / "oracles.json")])
        rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
        assert [row.split("|")[-2].strip() for row in rows[2:]] == ["passed", "**failed**"]


@pytest.mark.parametrize(("theirs", "is_right"), [(1e-4, True), (0.5e-4, False)])
def test_rounding_of_the_device_is_no_fault_where_diffusers_rounds_as_much(
    theirs: float, is_right: bool, oracle: Path
) -> None:
    def rounded(case: Case) -> Iterator[tuple[str, Tensor]]:
        for name, value in ltxv.forward(case):
            yield name, value * (1 + (1e-4 if case.way == "package" else theirs))

    figure = oracles.result(Check("r", rounded, case="ltxv_transformer"), oracle, CPU, 1, MOST)
    assert figure.is_right is is_right
    assert figure.details["float32"] > figure.details["tolerance"]


def test_what_is_no_number_is_wrong_also_if_diffusers_has_none(oracle: Path) -> None:
    check = Check("n", not_numbers, case="ltxv_transformer", in_bfloat16=False)
    assert oracles.result(check, oracle, CPU, 1, MOST).is_right is False


def test_rounding_of_one_result_does_not_excuse_another_one(oracle: Path) -> None:
    """The device rounds one result much, with diffusers' classes, too. Another one is wrong in the package alone."""
    wrong = {"uniform": {"package", "diffusers"}, "per_token": {"package"}}

    def rounded(case: Case) -> Iterator[tuple[str, Tensor]]:
        for name, value in ltxv.forward(case):
            factor = 1e-3 if name == "uniform" else 1e-4
            yield name, value * (1 + factor * (case.way in wrong.get(name, ())))

    figure = oracles.result(Check("r", rounded, case="ltxv_transformer"), oracle, CPU, 1, MOST)
    assert (figure.is_right, figure.details["worst"]) == (False, "per_token")


@pytest.mark.parametrize("name", ["ltx2_transformer_context", "ltx2_extend_forward_s1", "ltx2_extend_forward_noaudio"])
def test_diffusers_own_classes_compute_the_cases_of_ltx2(oracle: Path, name: str) -> None:
    """What is compared with them in bfloat16 is the same function."""
    case = load_case(oracle, name).on(CPU, torch.float32, "diffusers")
    case.check_all(ltx2.forward(case) if name == "ltx2_transformer_context" else ltx2.extension(case))


@pytest.mark.parametrize("name", ["lora_ltxv", "lora_ltx2"])
def test_diffusers_way_of_adapters_computes_the_cases(oracle: Path, name: str) -> None:
    case = load_case(oracle, name).on(CPU, torch.float32, "diffusers")
    case.check_all((ltxv if name == "lora_ltxv" else ltx2).adapters(case))


ON_DEVICE = (
    *("ltxv_extend_two_scale", "ltxv_long_chunks", "ltxv_vae", "lora_ltxv", "single_file_ltxv"),
    *("ltx2_transformer_context", "ltx2_extend_forward_noaudio", "ltx2_two_stage_lora", "ltx2_guidance"),
    *("ltx2_connectors", "ltx2_audio_vae", "ltx2_vocoder", "ltx2_mel", "ltx2_mel, tokens"),
)
"""Checks that together compute with every part."""


@pytest.mark.skipif(not can_simulate(), reason="GPUs are simulated by torch for CPUs alone")
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(
            check.name,
            dtype,
            marks=() if check.name in ON_DEVICE and dtype == torch.float32 else pytest.mark.soak,
            id=f"{check.name}, {str(dtype).removeprefix('torch.')}",
        )
        for check in CHECKS
        for dtype in (torch.float32, *((torch.bfloat16,) if check.in_bfloat16 else ()))
    ],
)
def test_a_case_on_a_simulated_gpu_has_the_bits_of_the_cpu(
    name: str, dtype: torch.dtype, oracle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = next(check for check in CHECKS if check.name == name)
    if not (oracle / check.folder).exists():
        pytest.skip(f"the oracle has no {check.folder}")
    ways: list[Way] = [check.way, "diffusers"] if check.has_diffusers else [check.way]
    for way in ways:
        expected = oracles.computed(check, load_case(oracle, check.folder).on(CPU, dtype, way))
        with monkeypatch.context() as patch, simulated_gpus(patch):
            made = oracles.computed(check, load_case(oracle, check.folder).on(torch.device("cuda"), dtype, way))
        assert made.keys() == expected.keys()
        assert all(torch.equal(made[tensor], expected[tensor]) for tensor in expected)


def test_compiled_blocks_are_checked_where_something_can_be_compiled(
    oracle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def noted(check: Check, *_: Any) -> Figure:
        seen.append(check.name)
        return Figure(1.0, is_right=True)

    monkeypatch.setattr(oracles, "result", noted)
    monkeypatch.setattr(oracles, "obstacle", lambda device: None)
    main(["oracles", "--out", str(tmp_path / "oracles.json")])
    present_too = [check.name for check in COMPILED if (oracle / check.folder).exists()]
    assert seen[-len(present_too) :] == present_too


def test_a_draw_changes_latents_and_texts_alone(oracle: Path) -> None:
    case = load_case(oracle, "ltxv_transformer")
    other = case.draw(3)
    changed = {name for name, value in case.given.items() if not torch.equal(value, other.given[name])}
    assert changed == {"prompt", "negative", "tokens"}
    assert all(torch.equal(value, case.draw(3).given[name]) for name, value in other.given.items())
    assert case.draw(0) is case


def test_tf32_is_off_inside_the_block_alone() -> None:
    parts = oracles._parts()
    before = {name: part.fp32_precision for name, part in parts.items()}
    with oracles.exact_float32():
        assert {part.fp32_precision for part in parts.values()} == {"ieee"}
    assert {name: part.fp32_precision for name, part in parts.items()} == before
