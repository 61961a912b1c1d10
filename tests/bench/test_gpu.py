"""The benchmark at true size runs with small models, goes on after a stop, and has all that a bare machine lacks."""

import ast
import json
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bench.acceleration import LEVELS
from bench.gpu import bundle, fp8, kernels, levers, requests
from bench.gpu.__main__ import MODES, main
from bench.gpu.device import Machine, flop
from bench.gpu.figures import Figure, Figures, read_figures, table
from bench.gpu.idle import by_stage, gaps, merged
from bench.gpu.jobs import CASES, Bench, Case
from bench.gpu.subject import Subject
from bench.gpu.true_size import checkpoint
from bench.oracle.case import oracle_folder
from longtake.models import compiled, vae_format
from longtake.models.checkpoints import empty_model
from longtake.models.registry import PartName
from longtake.runner import Runner
from tests.simulated_gpu import can_simulate, simulated_gpus

BROUGHT = {"torch", "transformers", "numpy", "safetensors", "huggingface_hub", "typing_extensions"}
"""The packages that a machine with torch and transformers has."""

IMPORTED_AS = {"pillow": "PIL"}
"""The names of packages in the bundle that are not the name with which they are imported."""


def test_each_lever_is_measured_and_an_existing_file_is_continued(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "levers.json"
    main(["levers", "--quick", "--out", str(out)])
    facts, figures = read_figures(out)
    assert facts["device"] == "CPU"
    assert all(figure.seconds > 0 for figure in figures.values())
    for model in ("0.9.8", "2.3"):
        of_model = [name for name in figures if name.startswith(model)]
        for part in ("evaluation", "compile off", "fp8", "encode a prompt", "decode", "untiled", "integers"):
            assert any(part in name for name in of_model), f"{model}: {part}"
    assert {"2.3: text encoder to the host", "2.3: text encoder to the device"} <= set(figures)
    evaluations = [figure for name, figure in figures.items() if ": evaluation" in name]
    assert all(figure.floor_s and figure.details["finite"] for figure in evaluations)
    assert figures["2.3: adapter applied the first time"].details["layers"] > 0
    assert figures["2.3: adapter removed"].details["same bits as before"]
    profiles = [figures[f"{model}: profile of an evaluation"].details for model in ("0.9.8", "2.3")]
    assert all(sum(details["share"].values()) == pytest.approx(1) for details in profiles)
    assert all({"matrix products", "attention"} <= set(details["share"]) for details in profiles)
    compared = {name: one.details for name, one in figures.items() if "relative difference" in one.details}
    differences = {name: float(details["relative difference"]) for name, details in compared.items()}
    assert len(differences) == 8
    assert all(difference < 1e-5 for name, difference in differences.items() if "cpu+cpu" in name), "of the rounding"
    assert all(0.001 < difference < 0.2 for name, difference in differences.items() if "fp8" in name)
    assert all(difference == 0 for name, difference in differences.items() if "compile off" in name), "as on a CPU"

    missing = ("device: copies of 1 GB, one in each of three ways", "0.9.8: evaluation with quantise fp8")
    document = json.loads(out.read_text())
    for name in missing:
        del document["figures"][name]
    out.write_text(json.dumps(document))
    capsys.readouterr()
    main(["levers", "--quick", "--out", str(out)])
    lines = [line.partition("] ")[2] for line in capsys.readouterr().out.splitlines()]
    assert [line.rpartition(": ")[0].startswith(name) for line, name in zip(lines, missing, strict=True)] == [True] * 2
    continued = read_figures(out)[1]
    assert set(continued) == set(figures)
    name = missing[1]
    assert continued[name].details["relative difference"] == figures[name].details["relative difference"]


def test_what_a_stopped_run_has_measured_is_done_again_where_a_later_figure_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter that is removed was applied before, and weights that go to the host were on the device."""
    done: list[str] = []

    @contextmanager
    def applied(*_: Any, **__: Any) -> Iterator[Any]:
        yield lambda number: done.append("applied")
        done.append("removed")

    class Copies:
        def __init__(self, *_: Any, **__: Any) -> None: ...
        def onload(self) -> None:
            done.append("to the device")

        def release(self) -> None:
            done.append("to the host")

    monkeypatch.setattr(levers, "applied", applied)
    monkeypatch.setattr(levers, "HostCopies", Copies)
    figures = Figures(None, {})
    for name in ("adapter applied the first time", "adapter applied again", "text encoder to the device"):
        figures.add(f"2.3: {name}", lambda: Figure(1.0))
    with Subject(Bench(Machine.here(quick=True), tmp_path), CASES["2.3"]) as subject, torch.inference_mode():
        levers._adapters(subject, figures)
        names = "2.3: text encoder to the host", "2.3: text encoder to the device"
        levers._moves(subject.model.text, figures, *names)
    assert done[:2] == ["applied", "removed"]
    assert done[-3:] == ["to the device", "to the host", "to the device"]
    assert figures.failed == {}


def test_the_operations_of_a_compiled_function_are_counted() -> None:
    """Torch runs no compiled code while it counts, and a function that must be compiled fails."""
    product = torch.compile(torch.matmul, fullgraph=True, backend="eager")
    a, b = torch.ones(4, 8), torch.ones(8, 2)
    product(a, b)
    assert flop(lambda: product(a, b)) == 2 * 4 * 8 * 2
    assert torch.equal(product(a, b), a @ b)


def test_the_gaps_between_a_devices_work_are_those_of_the_stage_in_which_they_begin() -> None:
    busy = merged([(3.0, 4.0), (1.0, 2.0), (1.5, 2.5), (2.505, 3.0)])
    assert busy == [(1.0, 2.5), (2.505, 4.0)]
    found = gaps(busy, (0.5, 5.0))
    assert found == [(0.5, 1.0), (4.0, 5.0)], "a gap of 5 ms is too short for other work"
    starts = [("prepare", 0.9), ("sampling", 1.0), ("frames", 3.0)]
    assert by_stage(found, starts) == {"prepare": 0.5, "frames": 1.0}


def test_regions_with_names_and_waits_are_no_work_of_a_gpu() -> None:
    def event(name: str, kind: str, start: float, stop: float, is_region: bool = False) -> Any:
        time = SimpleNamespace(start=start, end=stop, elapsed_us=lambda: stop - start)
        device = SimpleNamespace(name=kind)
        return SimpleNamespace(name=name, device_type=device, time_range=time, is_user_annotation=is_region)

    events = [
        event("## Call CompiledFxGraph f3k ##", "CUDA", 0, 9e6, is_region=True),
        event("cudaLaunchKernel", "CPU", 0, 10),
        event("nvjet_tst_256x128", "CUDA", 10, 1e6),
        event("Context Sync", "CUDA", 10, 8e6),
        event("Stream Wait Event", "CUDA", 10, 8e6),
        event("Memcpy DtoH (Device -> Pinned)", "CUDA", 7e6, 9e6),
    ]
    work = kernels.device_work(events, Machine(torch.device("cuda"), quick=True))
    assert [one.name for one in work] == ["nvjet_tst_256x128", "Memcpy DtoH (Device -> Pinned)"]


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16", "attention"),
        ("void pytorch_flash::flash_fwd_kernel<cutlass::bfloat16_t>", "attention"),
        ("nvjet_tst_256x128_64x4_2x1_v_bz_coopA_TNT", "matrix products"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64", "matrix products"),
        ("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc", "convolutions"),
        ("triton_red_fused__to_copy_add_mean_mul_pow_rsqrt_0", "fused by the compiler"),
        ("Memcpy HtoD (Pinned -> Device)", "copies"),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add>", kernels.OTHER),
    ],
)
def test_a_kernels_name_says_its_kind(kernel: str, kind: str) -> None:
    assert kernels.kind_of(kernel) == kind


def test_the_floors_of_small_models_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    main(["floors", "--quick"])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert {row[0] for row in rows} == {"| 0.9.8", "| 0.9.7", "| 2.3"}
    assert [row[1].split()[0] for row in rows if row[0] == "| 2.3"] == ["4", "1", "encode", "encode", "decode"]
    assert [row[2] for row in rows if row[0] == "| 2.3"] == ["8", "3", "1", "1", "1"]


def test_each_request_is_measured_with_its_stages(tmp_path: Path) -> None:
    out = tmp_path / "requests.json"
    main(["requests", "--quick", "--out", str(out)])
    _, figures = read_figures(out)
    assert {name.split(":")[0] for name in figures} == {"0.9.8", "0.9.7", "2.3"}
    assert sum("diffusers" in name for name in figures) == 2
    for name, figure in figures.items():
        if "request" in name and "idles" not in name:
            stages = figure.details["stages"]
            assert {"prepare", "context", "prompt", "encode", "sampling", "frames"} <= set(stages)
            assert sum(stages.values()) == pytest.approx(figure.seconds, abs=0.5)
    assert len(figures["2.3: warm request"].details["steps"]) == 8 + 3
    assert all(figures[f"{name}: warm request"].details["same file as the first"] for name in ("0.9.8", "2.3"))
    assert figures["2.3: start, the model loaded and prepared"].seconds > 0
    assert figures["2.3: first request after start"].details["stages"]["load"] < 0.5, "the model was loaded before"
    idle = figures["0.9.8: the device idles in a warm request at 480p"]
    assert 0 < idle.seconds < idle.details["of seconds"]
    assert sum(idle.details["by stage"].values()) == pytest.approx(idle.seconds)
    row = figures["0.9.8: the device idles in three warm requests at 480p, in a slot"]
    assert len(row.details["between two turns"]) == 2
    assert all(0 <= seconds < row.details["of seconds"] for seconds in row.details["between two turns"])
    assert "2.3: warm request" in table(out)


def test_each_acceleration_level_is_measured(tmp_path: Path) -> None:
    out = tmp_path / "acceleration.json"
    main(["acceleration", "--quick", "--out", str(out)])
    _, figures = read_figures(out)
    for model, evaluating in (("2.3", [8, 5, 4, 4]), ("0.9.7", [6, 4, 4, 3])):
        levels = [figures[f"{model}: sampling with acceleration {level}"].details for level in LEVELS]
        assert [details["steps that evaluate"] for details in levels] == evaluating
        evaluations = [details["evaluations"] for details in levels]
        assert evaluations == sorted(evaluations, reverse=True)
        assert evaluations[0] > evaluations[-1]
        assert all(details["times as fast as none"] > 0 for details in levels[1:])


def test_8_bit_floats_change_a_video_less_than_another_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fp8, "NAMES", ("0.9.8",))
    main(["fp8", "--quick", "--out", str(tmp_path / "fp8.json")])
    _, figures = read_figures(tmp_path / "fp8.json")
    other_seed, in_fp8 = (figures[f"0.9.8: new frames {way}"] for way in ("from another seed", "with fp8"))
    assert other_seed.details["PSNR, dB"] + 10 < in_fp8.details["PSNR, dB"] < 80
    assert in_fp8.details["computed in"].endswith("weights in fp8")


def test_a_warm_request_follows_another_one_also_after_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def noted(bench: Bench, case: Case, runner: Runner) -> Figure:
        made.append(case.name)
        return Figure(1.0)

    monkeypatch.setattr(requests, "request", noted)
    monkeypatch.setattr(requests, "_start", noted)
    monkeypatch.setattr(requests, "digest", lambda bench, case: case.name)
    monkeypatch.setattr(requests, "forget_prompts", lambda runner, card: made.append("other prompts"))
    monkeypatch.setattr(requests, "_pipeline", lambda bench, case: Figure(1.0))
    monkeypatch.setattr(requests, "_idle", lambda bench, case, runner: Figure(1.0))
    monkeypatch.setattr(requests, "_idle_in_a_row", lambda bench, case, runner: Figure(1.0))
    figures = Figures(None, {})
    for figure in ("start, the model loaded and prepared", "first request after start"):
        figures.add(f"0.9.8: {figure}", lambda: Figure(1.0))
    requests.measure(Bench(Machine.here(quick=True), tmp_path), figures)
    both = [[name, name, "other prompts", name] for name in ("0.9.8", "2.3")]  # start, first request, warm request
    assert made == [*both[0], *both[1], "0.9.7", "0.9.7"]


def test_a_figure_that_fails_does_not_end_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = Figures(tmp_path / "f.json", {"device": "CPU"})

    def failing() -> Figure:
        raise MemoryError("no room")

    figures.add("large", failing)
    figures.add("small", lambda: Figure(0.5, 0.25, 3.0, {"frames": 8}))
    with figures.attempt("a model"):
        raise OSError("no file")
    assert figures.failed == {"large": "MemoryError: no room", "a model": "OSError: no file"}
    assert "large: failed: MemoryError: no room" in capsys.readouterr().out
    again = Figures(tmp_path / "f.json", {"device": "CPU"})
    assert again.lack("large")
    assert not again.lack("small")
    assert table(tmp_path / "f.json").splitlines()[-3:] == [
        "| small | 0.5 | 0.25 | 2.00 | 3.0 | frames 8 |",
        "| large |  |  |  |  | failed: MemoryError: no room |",
        "| a model |  |  |  |  | failed: OSError: no file |",
    ]
    again.add("large", lambda: Figure(2.0))
    assert not Figures(tmp_path / "f.json", {"device": "CPU"}).lack("large"), "the next run tries it again"
    with pytest.raises(SystemExit, match="another machine"):
        Figures(tmp_path / "f.json", {"device": "GPU"})


def test_a_run_begins_no_figure_after_its_time_and_names_what_is_left(tmp_path: Path) -> None:
    late = Figures(tmp_path / "f.json", {"device": "CPU"}, limit_s=0)
    late.add("small", lambda: Figure(0.5))
    assert not late.lack("small", "large"), "no model is loaded for them"
    assert late.left == ["small", "large"]
    again = Figures(tmp_path / "f.json", {"device": "CPU"})
    assert again.lack("small", "large")
    again.add("small", lambda: Figure(0.5))
    assert again.left == []


@pytest.mark.parametrize(
    ("family", "part", "parameters"),
    [
        ("ltxv", "transformer", 13_042_569_344),
        ("ltxv", "vae", 1_246_913_522),
        ("ltxv", "text_encoder", 4_762_310_656),
        ("ltx2", "transformer", 18_988_838_144),
        ("ltx2", "connectors", 3_172_227_584),
        ("ltx2", "vae", 726_105_969),
    ],
)
def test_the_parts_have_their_published_sizes(family: str, part: PartName, parameters: int) -> None:
    model = empty_model(checkpoint(family, part, small=False))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_the_bundle_has_the_tokenizers_but_no_weights(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    bundle.copy_sources(folder)
    assert not list((folder / "src").rglob("*.safetensors"))
    assert (folder / "oracle/ltxv_transformer/expected.safetensors").is_file()
    for tiny in ("ltxv-tiny", "ltx2-tiny"):
        assert (folder / "src/longtake/weights" / tiny / "tokenizer/tokenizer.json").is_file()
    assert (folder / "bench/gpu/settings.json").is_file()
    assert (folder / "run.sh").is_file()
    case = folder / "oracle/weights/ltxv_transformer.safetensors"
    assert {value.dtype for value in load_file(case).values()} == {torch.bfloat16}
    wanted = load_file(oracle_folder() / "weights" / case.name)
    assert all(torch.equal(value.float(), wanted[name]) for name, value in load_file(case).items())
    bundle.pack(folder)
    assert {path.name for path in folder.iterdir()} == {"run.sh", bundle.ARCHIVE}
    assert bundle.num_bytes(folder) < 6e6, "the wheels are 54 MB"
    with tarfile.open(folder / bundle.ARCHIVE) as archive:
        assert {"bench/gpu/oracles.py", "src/longtake/runner.py", "oracle/ltxv_transformer/case.json"} <= {
            *archive.getnames()
        }


def test_the_bundle_has_every_package_that_is_imported() -> None:
    roots = {"bench": bundle.ROOT, "longtake": bundle.ROOT / "src"}
    waiting, seen, others = [f"bench.gpu.{name}" for name in ("__main__", *MODES)], set[str](), set[str]()
    while waiting:
        module = waiting.pop()
        package = module.split(".")[0]
        if package not in roots:
            others.add(package)
        elif module not in seen:
            seen.add(module)
            path = roots[package].joinpath(*module.split("."))
            file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            if file.is_file():
                waiting += imported_at_once(ast.parse(file.read_text(encoding="utf-8")).body)
    bundled = {IMPORTED_AS.get(package, package).replace("-", "_") for package in bundle.PACKAGES}
    assert {"torch", "av", "diffusers"} <= others, "the imports are seen"
    assert others - set(sys.stdlib_module_names) <= BROUGHT | bundled


def imported_at_once(body: list[ast.stmt]) -> Iterator[str]:
    """The modules that are imported with a module of this body. Imports in functions and for types are left out."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.soak
@pytest.mark.skipif(not can_simulate(), reason="GPUs are simulated by torch for CPUs alone")
def test_all_is_measured_on_a_gpu_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of all work is right, and no figure fails. Only a true GPU has a profile."""
    monkeypatch.setattr(levers, "profiled", lambda machine, work: (1.0, {}, 0))
    monkeypatch.setattr(vae_format, "is_measured", lambda card, device: False)  # takes long on a CPU
    bench, figures, case = Bench(Machine(torch.device("cuda"), quick=True), tmp_path), Figures(None, {}), CASES["2.3"]
    with simulated_gpus(monkeypatch):
        with Subject(bench, case) as subject, torch.inference_mode():
            levers._all_parts(subject, figures, levers.Usual({}, {}))
        requests._first_and_warm(bench, figures, case)
    assert figures.failed == {}
    assert figures.measured["2.3: warm request"].details["same file as the first"]


@pytest.mark.soak
@pytest.mark.skipif(not can_simulate(), reason="GPUs are simulated by torch for CPUs alone")
@pytest.mark.parametrize("name", fp8.NAMES)
def test_8_bits_are_measured_on_a_gpu_too(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With compiled blocks, some of which multiply in 8 bits, the frames are nearly those without."""
    monkeypatch.setattr(vae_format, "is_measured", lambda card, device: False)  # takes long on a CPU
    bench, figures = Bench(Machine(torch.device("cuda"), quick=True), tmp_path), Figures(None, {})
    with simulated_gpus(monkeypatch):
        monkeypatch.setattr(compiled, "obstacle", lambda device: None)
        fp8._change(bench, figures, CASES[name])
    assert figures.failed == {}
    other, rounded = (figure.details for figure in figures.measured.values())
    assert rounded["computed in"].endswith("compiled, products in fp8")
    assert other["PSNR, dB"] + 10 < rounded["PSNR, dB"] < 100
