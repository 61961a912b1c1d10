"""The cards, where their parts are looked for, and which model an endpoint gets."""

import subprocess
import sys
from pathlib import Path

import pytest

from longtake.endpoints import ENDPOINTS, endpoint
from longtake.errors import InvalidRequest, NotSupported
from longtake.models import registry
from longtake.models.registry import (
    ALONE,
    CAMERAS,
    CARDS,
    LTX2Card,
    LTXVCard,
    PartName,
    adapter,
    adapters,
    card,
    located,
    missing,
)
from longtake.settings import Settings
from tests.models.cards import ltxv_card

ENDPOINT_097 = "fal-ai/ltx-video-v097/extend"
ENDPOINT_098 = "fal-ai/ltxv-13b-098-distilled/extend"

SINGLE: dict[str, tuple[PartName, ...]] = {
    "ltxv": ("transformer", "vae"),
    "ltx2": ("transformer", "vae", "audio_vae", "vocoder", "connectors"),
}
"""The parts of each family that one checkpoint file holds."""


def _model(endpoint_id: str, settings: Settings) -> str:
    return ENDPOINTS[endpoint_id].model_choice(settings).card.name


def _settings(tmp_path: Path, **sources: str) -> Settings:
    named = {name.replace("__", "."): source for name, source in sources.items()}
    return Settings(models_dir=tmp_path, model_sources=named)


def _touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize("name", CARDS)
def test_the_facts_of_each_card_fit_together(name: str) -> None:
    facts = card(name)
    assert facts.name == name
    for frames in (facts.window_frames, facts.max_context_frames):
        assert frames % facts.temporal_compression == 1
    if isinstance(facts, LTXVCard):
        window_latents = (facts.window_frames - 1) // facts.temporal_compression + 1
        assert 0 < facts.overlap_latents < window_latents
    assert facts.max_context_frames < facts.window_frames
    assert facts.native_short_side is None or facts.native_short_side % facts.spatial_compression == 0
    assert tuple(facts.parts) == (*SINGLE[facts.family], *ALONE)
    assert {published is None for published in facts.parts.values()} == {facts.embedded}
    if not facts.embedded:
        assert len({facts.parts[part] for part in SINGLE[facts.family]}) == 1, "one file"
    assert set(facts.borrowed) <= set(facts.parts)
    assert facts.embedded == all(published is None for published in facts.loras.values()) or not facts.loras
    assert not isinstance(facts, LTX2Card) or facts.stg_blocks


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(NotSupported, match=r"'ltx-9'; the models are ltxv-tiny, ltxv-13b-0\.9\.7-dev"):
        card("ltx-9")


def test_published_files_and_the_shared_text_encoder_are_found(tmp_path: Path) -> None:
    distilled, dev = card("ltxv-13b-0.9.8-distilled"), card("ltxv-13b-0.9.7-dev")
    settings = _settings(tmp_path)
    assert missing(distilled, settings) == ("transformer", "vae", "text_encoder", "tokenizer")
    single = _touch(tmp_path / distilled.name / "ltxv-13b-0.9.8-distilled.safetensors")
    upscaler = _touch(tmp_path / distilled.name / "ltxv-spatial-upscaler-0.9.8.safetensors")
    for folder in ("text_encoder", "tokenizer"):
        (tmp_path / "ltxv-t5-xxl" / folder).mkdir(parents=True)
    found = located(distilled, settings)
    assert (found["transformer"], found["vae"], found["upsampler"]) == (single, single, upscaler)
    assert found["text_encoder"] == tmp_path / "ltxv-t5-xxl" / "text_encoder"
    assert missing(distilled, settings) == ()
    assert missing(dev, settings) == ("transformer", "vae")


def test_folders_in_diffusers_layout_come_first(tmp_path: Path) -> None:
    name = "ltxv-13b-0.9.7-dev"
    _touch(tmp_path / name / f"{name}.safetensors")
    for folder in ("transformer", "vae", "text_encoder", "tokenizer", "latent_upsampler"):
        (tmp_path / name / folder).mkdir(parents=True)
    found = located(card(name), _settings(tmp_path))
    assert tuple(found) == tuple(card(name).parts)
    assert found["transformer"] == tmp_path / name / "transformer"
    assert found["upsampler"] == tmp_path / name / "latent_upsampler"


def test_a_source_may_be_a_file_a_folder_or_a_repository(tmp_path: Path) -> None:
    name = "ltxv-13b-0.9.7-dev"
    file = _touch(tmp_path / "elsewhere" / "merged.safetensors")
    found = located(card(name), _settings(tmp_path, **{name.replace(".", "__"): str(file)}))
    assert found == {"transformer": file, "vae": file}
    (tmp_path / "elsewhere" / "vae").mkdir()
    found = located(card(name), _settings(tmp_path, **{name.replace(".", "__"): str(file.parent)}))
    assert found == {"vae": tmp_path / "elsewhere" / "vae"}
    assert located(card(name), _settings(tmp_path, **{name.replace(".", "__"): "someone/repository"})) == {}


def test_an_endpoint_gets_its_own_model_where_it_is_installed(tmp_path: Path) -> None:
    settings = Settings(models_dir=tmp_path, stand_in="allow")
    assert _model(ENDPOINT_097, settings) == "ltxv-tiny"
    assert _model(ENDPOINT_098, settings) == "ltxv-tiny"
    for folder in ("transformer", "vae", "text_encoder", "tokenizer"):
        (tmp_path / "ltxv-13b-0.9.8-distilled" / folder).mkdir(parents=True)
    assert _model(ENDPOINT_098, settings) == "ltxv-13b-0.9.8-distilled"
    assert _model(ENDPOINT_097, settings) == "ltxv-tiny"
    with pytest.raises(InvalidRequest, match=r"no endpoint 'fal-ai/other'; there are .*fal-ai"):
        endpoint("fal-ai/other")


def test_the_two_models_of_097_share_a_text_encoder_and_no_more(tmp_path: Path) -> None:
    dev, distilled = ltxv_card("ltxv-13b-0.9.7-dev"), ltxv_card("ltxv-13b-0.9.7-distilled")
    assert (dev.guidance, distilled.guidance) == ("dev", "distilled")
    single = _touch(tmp_path / distilled.name / "ltxv-13b-0.9.7-distilled.safetensors")
    upscaler = _touch(tmp_path / distilled.name / "ltxv-spatial-upscaler-0.9.7.safetensors")
    for folder in ("text_encoder", "tokenizer"):
        (tmp_path / "ltxv-t5-xxl" / folder).mkdir(parents=True)
    found = located(distilled, _settings(tmp_path))
    assert (found["transformer"], found["vae"], found["upsampler"]) == (single, single, upscaler)
    assert missing(distilled, _settings(tmp_path)) == ()
    assert missing(dev, _settings(tmp_path)) == ("transformer", "vae")


def test_no_torch_is_imported() -> None:
    code = (
        "import sys, longtake.settings, longtake.models.registry, longtake.models.checks;"
        "import longtake.models.download, longtake.models.lora_files;"
        "print([m for m in ('torch', 'diffusers', 'transformers', 'av', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


ENDPOINT_23 = "fal-ai/ltx-2.3-22b/extend-video"


def test_the_parts_of_ltx2_lie_in_one_file_on_a_folder_and_in_gemmas_repository(tmp_path: Path) -> None:
    facts, settings = card("ltx-2.3"), _settings(tmp_path)
    assert missing(facts, settings) == (*SINGLE["ltx2"], "text_encoder", "tokenizer")
    assert _model(ENDPOINT_23, settings) == "ltx2-tiny"
    single = _touch(tmp_path / "ltx-2.3" / "ltx-2.3-22b-dev.safetensors")
    found = located(facts, settings)
    assert found == dict.fromkeys(SINGLE["ltx2"], single), "the model's own folder is not mistaken for Gemma's"
    gemma = _touch(tmp_path / "gemma-3-12b-it-qat-q4_0-unquantized" / "config.json").parent
    found = located(facts, settings)
    assert (found["text_encoder"], found["tokenizer"]) == (gemma, gemma)
    assert missing(facts, settings) == ()
    assert _model(ENDPOINT_23, settings) == "ltx-2.3"


def test_a_source_file_of_ltx2_holds_its_five_parts(tmp_path: Path) -> None:
    file = _touch(tmp_path / "elsewhere" / "merged.safetensors")
    settings = _settings(tmp_path, **{"ltx-2__3": str(file)})
    assert located(card("ltx-2.3"), settings) == dict.fromkeys(SINGLE["ltx2"], file)
    assert adapters(card("ltx-2.3"), settings) == {}


def test_a_part_may_lie_with_another_embedded_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path)
    facts, settings = card("ltx2-tiny"), _settings(tmp_path)
    assert "upsampler" not in located(facts, settings)
    (tmp_path / "ltxv-tiny" / "latent_upsampler").mkdir(parents=True)
    (tmp_path / "ltxv-tiny" / "vae").mkdir()
    assert located(facts, settings) == {"upsampler": tmp_path / "ltxv-tiny" / "latent_upsampler"}
    (tmp_path / "ltx2-tiny" / "latent_upsampler").mkdir(parents=True)
    assert located(facts, settings)["upsampler"] == tmp_path / "ltx2-tiny" / "latent_upsampler"


def test_adapters_are_found_by_name_or_as_published(tmp_path: Path) -> None:
    facts, settings = card("ltx-2.3"), _settings(tmp_path)
    assert adapters(facts, settings) == {}
    folder = tmp_path / "ltx-2.3"
    named = _touch(folder / "loras" / "distill.safetensors")
    published = _touch(folder / "loras" / "ltx-2-19b-lora-camera-control-jib-down.safetensors")
    assert adapters(facts, settings) == {"distill": named, "camera_jib_down": published}
    assert adapter(facts, "camera_jib_down", settings, field=("body", "camera_lora")) == published
    with pytest.raises(NotSupported, match=r"`longtake models pull ltx-2\.3`") as raised:
        adapter(facts, "camera_jib_up", settings, field=("body", "camera_lora"))
    assert (raised.value.loc, raised.value.value) == (("body", "camera_lora"), "camera_jib_up")
    assert raised.value.ctx == {"supported": ["distill", "camera_jib_down"]}


def test_every_camera_movement_has_its_adapter() -> None:
    for facts in (card("ltx-2.3"), card("ltx2-tiny")):
        assert set(facts.loras) == {"distill", *(f"camera_{movement}" for movement in CAMERAS)}
