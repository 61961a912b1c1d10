"""The doctor measures the device."""

import json
import sys

import pytest
from typer.testing import CliRunner

from longtake.cli import app, measuring
from longtake.cli.doctor import Report
from longtake.models.registry import card, missing
from longtake.settings import settings
from tests.simulated_gpu import can_simulate, simulated_gpus


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "LONGEST_S", 0.0)
    monkeypatch.setenv("LONGTAKE_DEVICE", "cpu")
    if missing(card("ltxv-tiny"), settings()):
        pytest.skip("the embedded model's weights are not in the package")


def test_a_cpu_is_measured_without_copies_to_a_gpu() -> None:
    found = {measured.name: measured.text for measured in measuring.measure(settings())}
    assert [*found] == ["matrix products", "memory", "embedded model"]
    assert "TFLOP/s in float32" in found["matrix products"]
    assert float(found["matrix products"].split()[0]) > 0
    assert float(found["memory"].split()[0]) > 0
    assert "ms for one evaluation" in found["embedded model"]


@pytest.mark.skipif(not can_simulate(), reason="GPUs are simulated by torch for CPUs alone")
def test_a_gpu_is_measured_with_copies_from_both_kinds_of_host_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two figures that need much work are left out."""
    for name in ("_products", "_memory"):
        monkeypatch.setattr(measuring, name, lambda *given: "fast")
    monkeypatch.setattr(measuring, "COPIED_BYTES", 2**10)
    with simulated_gpus(monkeypatch) as gpus:
        found = {measured.name: measured.text for measured in measuring.measure(settings(device="cuda:1"))}
        copies = [one.waits for one in gpus.crossings if one.num_bytes == 2**10 and one.place.startswith("measuring")]
    assert [*found][2:] == ["pinned host memory to the GPU", "ordinary host memory to the GPU", "embedded model"]
    assert {*copies} == {False}
    assert "ms for one evaluation" in found["embedded model"]


def test_the_command_prints_the_figures_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_codec", "_sandbox", "model_findings"):  # which take time
        monkeypatch.setattr(sys.modules[Report.__module__], name, lambda *given: [])
    result = CliRunner().invoke(app, ["doctor", "--measure", "--json"])
    sections = json.loads(result.stdout)["sections"]
    assert [finding["name"] for finding in sections["Measured"]] == ["matrix products", "memory", "embedded model"]
    assert sections["Models that fit"][0]["name"] == "cpu"
