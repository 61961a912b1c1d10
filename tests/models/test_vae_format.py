"""The faster memory format of a VAE is measured once for each machine, and gives the same frames but for rounding."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from longtake.families.ltxv.model import LTXVModel, load
from longtake.models import vae_format
from longtake.models.vae_format import (
    Format,
    FormatKey,
    choose,
    decode_seconds,
    described,
    faster,
    is_measured,
    set_format,
)
from longtake.settings import Settings
from tests.models import small, small_ltx2
from tests.models.cards import ltxv_card
from tests.sampling.small_vae import small_vae
from tests.simulated_gpu import can_simulate, simulated_gpus

CPU = torch.device("cpu")
NAME = "ltxv-13b-0.9.7-dev"
KEY = FormatKey("ltx-2.3", "bfloat16", "NVIDIA H200", "9.0", "2.11.0", 91002)
SLOWER: Mapping[Format, float] = {"contiguous": 1.0, "channels last": 0.96}
FASTER: Mapping[Format, float] = {"contiguous": 1.0, "channels last": 0.94}

needs_simulation = pytest.mark.skipif(not can_simulate(), reason="GPUs are simulated by torch for CPUs alone")


def format_of(vae: Any) -> Format:
    weights = next(module.weight for module in vae.modules() if isinstance(module, nn.Conv3d))
    return "contiguous" if weights.is_contiguous() else "channels last"


class Clock:
    """A timing that takes its seconds from a table, and notes the formats in which it is called."""

    def __init__(self, seconds: Mapping[Format, float]) -> None:
        self.seconds = seconds
        self.formats: list[Format] = []

    def __call__(self, vae: Any, device: torch.device) -> float:
        assert next(vae.parameters()).device.type == device.type
        self.formats.append(format_of(vae))
        return self.seconds[self.formats[-1]]


@pytest.mark.parametrize(("seconds", "expected"), [(SLOWER, "contiguous"), (FASTER, "channels last")])
def test_a_gain_of_less_than_5_per_cent_changes_nothing(seconds: Mapping[Format, float], expected: Format) -> None:
    assert faster(seconds) == expected


def test_a_choice_is_measured_once_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    vae, clock, folder = small.vae(), Clock(FASTER), tmp_path / "compiled"
    with caplog.at_level(logging.INFO):
        assert choose(vae, KEY, folder, CPU, clock) == "channels last"
        assert clock.formats == ["contiguous", "channels last"]
        assert format_of(vae) == "contiguous", "the caller sets the chosen format"
        assert choose(vae, KEY, folder, CPU, Clock(SLOWER)) == "channels last", "as it was measured at first"
    assert "channels last. A short decoding took 1000 ms contiguous and 940 ms channels last." in caplog.text
    assert f"as {KEY.path(folder)} says" in caplog.text
    document = json.loads(KEY.path(folder).read_text())
    assert document["seconds"] == FASTER
    assert FormatKey(**document["measured with"]) == KEY


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"dtype": "float16"},
        {"gpu": "NVIDIA L4"},
        {"capability": "8.9"},
        {"torch_version": "3"},
        {"cudnn_version": None},
    ],
)
def test_another_model_dtype_gpu_or_version_has_a_choice_of_its_own(tmp_path: Path, change: Mapping[str, Any]) -> None:
    other = replace(KEY, **change)
    assert choose(small.vae(), KEY, tmp_path, CPU, Clock(FASTER)) == "channels last"
    assert described(other, tmp_path) == "measured when the model is loaded for the first time"
    assert choose(small.vae(), other, tmp_path, CPU, Clock(SLOWER)) == "contiguous"
    assert described(KEY, tmp_path) == f"channels last, as {KEY.path(tmp_path)} says"
    assert described(other, tmp_path) == f"contiguous, as {other.path(tmp_path)} says"


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"format": "sparse"}', b"\xff"])
def test_with_a_damaged_file_each_process_measures(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = KEY.path(tmp_path)
    path.write_bytes(content)
    for seconds, expected in ((FASTER, "channels last"), (SLOWER, "contiguous")):
        assert choose(small.vae(), KEY, tmp_path, CPU, Clock(seconds)) == expected
    assert caplog.text.count("Each process measures the VAE's memory format again") == 2
    assert path.read_bytes() == content
    assert described(KEY, tmp_path).startswith(f"measured by each process, because {path} cannot be read (")


def test_where_nothing_can_be_written_each_process_measures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "compiled"
    assert choose(small.vae(), KEY, folder, CPU, Clock(FASTER)) == "channels last"
    assert "Each process measures the VAE's memory format again" in caplog.text


def test_of_processes_that_measure_at_the_same_time_the_first_decides(tmp_path: Path) -> None:
    def overtaken(vae: Any, device: torch.device) -> float:
        choose(small.vae(), KEY, tmp_path, CPU, Clock(FASTER))
        return SLOWER[format_of(vae)]

    assert choose(small.vae(), KEY, tmp_path, CPU, overtaken) == "channels last"


def test_if_measuring_fails_nothing_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def failing(vae: Any, device: torch.device) -> float:
        if format_of(vae) == "channels last":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return 1.0

    vae = small.vae()
    assert choose(vae, KEY, tmp_path, CPU, failing) == format_of(vae) == "contiguous"
    assert "could not be compared (CUDA out of memory.)" in caplog.text
    assert not list(tmp_path.iterdir())


def test_nothing_is_measured_on_a_cpu_or_with_a_model_of_the_package() -> None:
    cuda = torch.device("cuda")
    measured = [is_measured(ltxv_card(name), device) for name in (NAME, "ltxv-tiny") for device in (cuda, CPU)]
    assert measured == [True, False, False, False]


@pytest.mark.parametrize("make", [small_vae, lambda: small_ltx2.model("vae")], ids=["LTX-Video", "LTX-2"])
def test_channels_last_differs_by_rounding_only(make: Callable[[], Any]) -> None:
    """All inputs of convolutions are in the format, and a VAE that is contiguous again gives its bits of before."""
    vae, orders = make(), list[bool]()
    torch.manual_seed(0)
    latent, clip = torch.randn(1, vae.config.latent_channels, 3, 2, 3), torch.rand(1, 3, 9, 64, 96) * 2 - 1
    step = torch.full((1,), 0.05) if vae.config.timestep_conditioning else None

    def results() -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            return vae.decode(latent, step, return_dict=False)[0], vae.encode(clip).latent_dist.mode()

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        orders.append(inputs[0].is_contiguous(memory_format=torch.channels_last_3d))

    usual = results()
    set_format(vae, "channels last")
    hooks = [module.register_forward_pre_hook(note) for module in vae.modules() if isinstance(module, nn.Conv3d)]
    for found, expected in zip(results(), usual, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for hook in hooks:
        hook.remove()
    assert len(orders) > 10
    assert all(orders)
    set_format(vae, "contiguous")
    for found, expected in zip(results(), usual, strict=True):
        assert torch.equal(found, expected)


def _loaded(folder: Path, source: Path, offload: Any) -> LTXVModel:
    sources = {NAME: str(source)}
    settings = Settings(model_sources=sources, compiled_dir=folder, device="cuda:1", offload=offload, dtype="float32")
    return load(ltxv_card(NAME), settings)


@needs_simulation
@pytest.mark.parametrize("offload", ["none", "model"])
def test_the_choice_is_used_where_the_weights_are(
    tmp_path: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch, offload: str
) -> None:
    clock = Clock(FASTER)
    monkeypatch.setattr(vae_format, "decode_seconds", clock)
    with simulated_gpus(monkeypatch):
        model, again = (_loaded(tmp_path, small_model, offload) for _ in range(2))
        clip = torch.rand(1, 3, 9, 64, 64, device=model.device)
        with torch.inference_mode():
            latent = model.vae.encode(clip).latent_dist.mode()
            model.text.encode("a red ball")  # takes the VAE's place on the GPU, if the parts take turns
            assert torch.equal(again.vae.encode(clip).latent_dist.mode(), latent)
            assert torch.equal(model.vae.encode(clip).latent_dist.mode(), latent)
        assert format_of(model.vae) == format_of(again.vae) == "channels last"
        assert model.arithmetic == "float32 on Simulated GPU, not compiled, VAE channels last" == again.arithmetic
    assert clock.formats == ["contiguous", "channels last"]


@needs_simulation
def test_a_decoding_is_timed_on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vae_format, "LATENTS", (2, 2, 2))
    with simulated_gpus(monkeypatch, forbidden=frozenset({0})) as gpus:
        device = torch.device("cuda:1")
        with torch.cuda.device(device):
            assert decode_seconds(small_vae().to(device), device) > 0
        waits = [crossing for crossing in gpus.crossings if crossing.operation == "torch.cuda.synchronize"]
    assert len(waits) == 2 * (1 + vae_format.ROUNDS), "the host waits before and after each decoding"
