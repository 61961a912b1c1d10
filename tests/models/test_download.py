"""The models on this machine, the plan of a pull, and the pull itself."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from longtake.errors import DownloadFailed, InvalidRequest
from longtake.families.ltxv.model import load
from longtake.models.checks import check
from longtake.models.download import list_models, plan_pull, pull
from longtake.models.registry import card
from longtake.settings import Settings
from longtake.video import Progress
from tests.models import small, small_ltx2
from tests.models.cards import ltxv_card
from tests.models.stand_in_hub import Hub, serving

NAME = "ltxv-13b-0.9.7-dev"
UPSCALER = "ltxv-spatial-upscaler-0.9.7.safetensors"


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def stand_in(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """The published repository with small models in it, and one in diffusers layout."""
    parts = _contents(small_model)
    published = {name: data for name, data in parts.items() if name.startswith(("text_encoder/", "tokenizer/"))}
    published[f"{NAME}.safetensors"] = small.write_single(tmp_path_factory.mktemp("single") / "x").read_bytes()
    published[UPSCALER] = parts["latent_upsampler/diffusion_pytorch_model.safetensors"]
    published |= {"README.md": b"", "text_encoder/pytorch_model.bin": b"pickle", "other.safetensors": b"x"}
    diffusers = {name: data for name, data in parts.items() if not name.startswith(("latent", "tokenizer"))}
    with serving(Hub({"Lightricks/LTX-Video": published, "some/diffusers": diffusers})) as running:
        yield running


def _settings(stand_in: Hub, tmp_path: Path, **changes: object) -> Settings:
    return Settings(models_dir=tmp_path, hf_endpoint=stand_in.url, device="cpu", **changes)  # type: ignore[arg-type]


def test_the_plan_names_each_file_once_and_its_size(stand_in: Hub, tmp_path: Path) -> None:
    plan = plan_pull(card(NAME), _settings(stand_in, tmp_path))
    paths = sorted(file.path for file, _ in plan.files)
    assert f"{NAME}.safetensors" in paths
    assert UPSCALER in paths
    assert "text_encoder/model.safetensors" in paths
    assert not {"README.md", "other.safetensors", "text_encoder/pytorch_model.bin"} & set(paths)
    assert len(paths) == len(set(paths))
    assert plan.num_bytes == sum(file.num_bytes for file, _ in plan.files)
    assert f"{len(paths)} files" in plan.sentence()
    assert "Open Weights" in plan.sentence()


def test_a_pull_makes_the_model_whole(stand_in: Hub, tmp_path: Path) -> None:
    settings = _settings(stand_in, tmp_path)
    status = {status.card.name: status for status in list_models(settings)}
    assert not status[NAME].installed
    reported: list[Progress] = []
    plan = pull(card(NAME), settings, reported.append)
    steps = [progress.step for progress in reported]
    assert steps == sorted(steps)
    assert steps[-1] == plan.num_bytes == reported[-1].steps
    status = {status.card.name: status for status in list_models(settings)}
    assert status[NAME].installed
    assert status[NAME].num_bytes == plan.num_bytes
    assert plan_pull(card(NAME), settings).sentence() == f"{NAME} is here already."
    assert check(NAME, settings).missing == ()
    # The small upscaler's single file has no settings in it, so it counts as the published one and does not fit.
    problems = {part.part: part.problem for part in check(NAME, settings).parts}
    assert problems.pop("upsampler") is not None
    assert set(problems.values()) == {None}
    (tmp_path / NAME / UPSCALER).unlink()
    assert check(NAME, settings).fits
    assert load(ltxv_card(NAME), settings).text.encode("a").embeddings.shape == (1, 256, 12)


def test_a_pull_from_another_repository(stand_in: Hub, tmp_path: Path) -> None:
    settings = _settings(stand_in, tmp_path, model_sources={NAME: "some/diffusers"})
    pull(card(NAME), settings)
    assert (tmp_path / NAME / "transformer" / "config.json").exists()
    assert (tmp_path / NAME / UPSCALER).exists()
    assert not (tmp_path / NAME / f"{NAME}.safetensors").exists()
    assert list_models(settings)[1].installed


def test_pulls_that_cannot_be(stand_in: Hub, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="ships inside the package"):
        plan_pull(card("ltxv-tiny"), _settings(stand_in, tmp_path))
    with pytest.raises(DownloadFailed, match="LONGTAKE_OFFLINE"):
        pull(card(NAME), _settings(stand_in, tmp_path, offline=True))
    with pytest.raises(DownloadFailed, match=r"has no ltxv-13b-0\.9\.8-distilled\.safetensors, the transformer"):
        plan_pull(card("ltxv-13b-0.9.8-distilled"), _settings(stand_in, tmp_path))


LTX2 = "ltx-2.3"
GEMMA = "gemma-3-12b-it-qat-q4_0-unquantized"
UPSCALER_2 = "ltx-2.3-spatial-upscaler-x2-1.1.safetensors"
DISTILLED = "ltx-2.3-22b-distilled-lora-384-1.1.safetensors"


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """The repositories of LTX-2.3, with small models in them."""
    from safetensors.torch import save

    place = tmp_path_factory.mktemp("ltx2")
    small_ltx2.write_text(place)
    gemma = _contents(place / "text_encoder") | _contents(place / "tokenizer")
    gemma |= {"README.md": b"", "pytorch_model.bin": b"pickle", "original/config.json": b"{}"}
    layer = "diffusion_model.transformer_blocks.0.attn1.to_q"
    lora = save({f"{layer}.lora_A.weight": torch.ones(2, 32), f"{layer}.lora_B.weight": torch.ones(32, 2)})
    repos = {
        "Lightricks/LTX-2.3": {
            "ltx-2.3-22b-dev.safetensors": small_ltx2.write_single(place / "x").read_bytes(),
            "ltx-2.3-22b-distilled-1.1.safetensors": b"not needed",
            UPSCALER_2: small_ltx2.write_upscaler(place / "u").read_bytes(),
            DISTILLED: lora,
        },
        f"google/{GEMMA}": gemma,
    }
    for movement in ("Dolly-In", "Dolly-Out", "Dolly-Left", "Dolly-Right", "Jib-Up", "Jib-Down", "Static"):
        name = f"LTX-2-19b-LoRA-Camera-Control-{movement}"
        repos[f"Lightricks/{name}"] = {f"{name.lower()}.safetensors": lora, "README.md": b""}
    with serving(Hub(repos)) as running:
        yield running


def test_a_pull_of_ltx2_names_and_fetches_all_that_a_request_may_need(second: Hub, tmp_path: Path) -> None:
    settings = _settings(second, tmp_path)
    plan = plan_pull(card(LTX2), settings)
    paths = [file.path for file, _ in plan.files]
    cameras = [path for path in paths if "camera-control" in path]
    assert len(cameras) == 7
    assert {"ltx-2.3-22b-dev.safetensors", UPSCALER_2, DISTILLED, "model.safetensors", "tokenizer.json"} < set(paths)
    assert not {"README.md", "pytorch_model.bin", "original/config.json"} & set(paths)
    assert "ltx-2.3-22b-distilled-1.1.safetensors" not in paths
    assert len(paths) == len(set(paths))
    assert "LTX-2 Community License" in plan.sentence()
    assert "Gemma Terms" in plan.sentence()
    assert f"google/{GEMMA}" in plan.sentence()
    pull(card(LTX2), settings)
    status = next(status for status in list_models(settings) if status.card.name == LTX2)
    assert status.installed
    assert status.num_bytes == plan.num_bytes
    assert len(status.adapters) == 8
    assert plan_pull(card(LTX2), settings).files == []
    report = check(LTX2, settings)
    assert {part.part: part.problem for part in report.parts if part.problem} == {}
    assert {"distill", "camera_dolly_in", "vocoder", "text_encoder"} < {part.part for part in report.parts}
    assert report.fits


def test_check_names_an_adapter_that_does_not_fit(second: Hub, tmp_path: Path) -> None:
    settings = _settings(second, tmp_path)
    pull(card(LTX2), settings)
    (tmp_path / LTX2 / DISTILLED).write_bytes((tmp_path / LTX2 / UPSCALER_2).read_bytes())
    report = check(LTX2, settings)
    assert not report.fits
    assert [part.part for part in report.parts if part.problem] == ["distill"]
