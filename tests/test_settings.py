"""Settings from the environment, and the sentence about a bad one."""

import os
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from longtake.errors import InvalidRequest
from longtake.price_setting import PriceSetting
from longtake.settings import Settings, expanded, make_folder, settings, unknown_settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("LONGTAKE_"):
            monkeypatch.delenv(name)


def test_the_defaults_are_complete_and_frozen() -> None:
    made = settings()
    assert (made.device, made.dtype, made.safety, made.offline) == ("auto", "auto", "available", False)
    assert made.prices == {}, "the endpoints' own, which are fal's"
    assert made.models_dir.is_absolute()
    with pytest.raises(ValidationError):
        made.device = "cpu"


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LONGTAKE_MODELS_DIR", str(tmp_path))
    monkeypatch.setenv("LONGTAKE_DEVICE", "cuda:1")
    monkeypatch.setenv("LONGTAKE_OFFLINE", "1")
    monkeypatch.setenv("LONGTAKE_MODEL_SOURCES", '{"ltxv-tiny": "/models/tiny"}')
    monkeypatch.setenv("LONGTAKE_PRICES", '{"a": 0.2, "b": "0.3", "c": {"usd": 0.001605, "usd_with_lora": 1}}')
    monkeypatch.setenv("LONGTAKE_HF_TOKEN", "hf_secret")
    made = settings()
    assert (made.models_dir, made.device, made.offline) == (tmp_path, "cuda:1", True)
    assert made.model_sources == {"ltxv-tiny": "/models/tiny"}
    assert made.prices == {
        "a": PriceSetting(usd=Decimal("0.2")),
        "b": PriceSetting(usd=Decimal("0.3")),
        "c": PriceSetting(usd=Decimal("0.001605"), usd_with_lora=Decimal(1)),
    }
    assert settings(prices={"a": 2}).prices == {"a": PriceSetting(usd=Decimal(2))}
    assert "hf_secret" not in repr(made)
    assert settings(device="cpu").device == "cpu"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("DEVICE", "tpu", "LONGTAKE_DEVICE=tpu is not a usable value"),
        ("QUANTISE", "fp16", "LONGTAKE_QUANTISE=fp16 is not a usable value: it must be 'none' or 'fp8'."),
        ("THREADS", "many", "LONGTAKE_THREADS=many is not a usable value: it must be a valid integer."),
        ("DTYPE", "int8", "LONGTAKE_DTYPE=int8"),
        ("SAFETY", "maybe", "LONGTAKE_SAFETY=maybe"),
        ("SAFETY", "required", "LONGTAKE_SAFETY_CHECKPOINT must name"),
        ("OFFLINE", "perhaps", "LONGTAKE_OFFLINE=perhaps"),
        ("MAX_SOURCE_BYTES", "0", "LONGTAKE_MAX_SOURCE_BYTES=0"),
        ("MAX_SOURCE_DURATION_S", "inf", "LONGTAKE_MAX_SOURCE_DURATION_S=inf"),
        ("PRICES", '{"a": -1}', "LONGTAKE_PRICES=-1"),
        ("PRICES", '{"a": "nan"}', "LONGTAKE_PRICES=nan"),
        ("PRICES", '{"a": {"usd": 1, "usd_with_lora": -1}}', "LONGTAKE_PRICES=-1"),
        ("PRICES", '{"a": {"euro": 1}}', "LONGTAKE_PRICES="),
        ("PRICES", "0.2", "LONGTAKE_PRICES=0.2"),
        ("PRICES", "not json", "LONGTAKE_PRICES=not json is not a usable value: must be JSON"),
        ("PRICE_LTXV098_PER_SECOND", "0.5", "LONGTAKE_PRICE_LTXV098_PER_SECOND is no setting any more"),
        ("PRICE_LTX2_PER_MEGAPIXEL_WITH_LORA", "1", "LONGTAKE_PRICES names prices by endpoint id, as JSON"),
        ("EXPANSION_URL", "ftp://host", "http"),
        ("EXPANSION_URL", "http://host/v1", "LONGTAKE_EXPANSION_MODEL must name"),
        ("MODEL_SOURCES", "not json", "LONGTAKE_MODEL_SOURCES"),
    ],
)
def test_an_error_names_the_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str) -> None:
    monkeypatch.setenv(f"LONGTAKE_{name}", value)
    with pytest.raises(InvalidRequest) as raised:
        settings()
    assert reason in raised.value.message
    assert raised.value.message.endswith(".")


def test_a_secret_is_never_repeated() -> None:
    with pytest.raises(InvalidRequest) as raised:
        settings(hf_token=["hf_secret"])
    assert "hf_secret" not in raised.value.message


def test_home_is_expanded() -> None:
    assert Settings(models_dir=Path("~/weights")).models_dir == Path.home() / "weights"


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without HOME whom the system does not know, as in a container."""
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 2)
    with pytest.raises(RuntimeError):
        Path.home()


@pytest.mark.usefixtures("homeless")
def test_without_a_home_folder_nothing_is_created_and_the_error_names_the_setting() -> None:
    made = settings()
    for name in ("data_dir", "models_dir", "loras_dir"):
        folder = getattr(made, name)
        assert not folder.exists()
        with pytest.raises(InvalidRequest, match=f"no home folder. Set LONGTAKE_{name.upper()} to a folder"):
            make_folder(folder, name)
    assert expanded("~/clip.mp4") == Path("~/clip.mp4")


@pytest.mark.usefixtures("homeless")
def test_without_a_home_folder_models_are_in_the_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LONGTAKE_LORAS_DIR", "/loras")
    for made in (settings(data_dir=tmp_path), settings(data_dir=str(tmp_path))):
        assert (made.data_dir, made.models_dir, made.loras_dir) == (tmp_path, tmp_path / "models", Path("/loras"))
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert settings(data_dir=tmp_path).models_dir == Path("/cache/longtake/models")


def test_with_a_home_folder_the_data_folder_does_not_move_the_models(tmp_path: Path) -> None:
    assert settings(data_dir=tmp_path).models_dir == settings().models_dir


@pytest.mark.parametrize("name", ["DATA_DIR", "MODELS_DIR", "DEPTH_CHECKPOINT"])
def test_the_home_of_an_unknown_user_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"LONGTAKE_{name}", "~nobody-has-this-name/x")
    with pytest.raises(InvalidRequest, match=f"LONGTAKE_{name}=~nobody-has-this-name/x .* the home folder"):
        settings()


def test_a_folder_that_cannot_be_created_is_an_error_about_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidRequest, match="LONGTAKE_DATA_DIR cannot be created: a part of this path is a file"):
        make_folder(tmp_path / "file" / "data", "data_dir")


def test_a_folder_with_the_name_of_a_file_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidRequest, match="there is already a file or folder of that name") as caught:
        make_folder(tmp_path / "file", "data_dir")
    assert str(tmp_path) not in caught.value.message


def test_misspelt_settings_are_found_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LONGTAKE_THREDS", "LONGTAKE_ZZZZ", "longtake_dtype", "LONGTAKER"):
        monkeypatch.setenv(name, "1")
    assert unknown_settings() == {
        "LONGTAKE_THREDS": "no such setting, so it has no effect; perhaps LONGTAKE_THREADS is meant",
        "LONGTAKE_ZZZZ": "no such setting, so it has no effect",
    }
