"""Settings from the environment, and the sentence about a bad one."""

from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from longtake.errors import InvalidRequest
from longtake.settings import PriceSetting, Settings, settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

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
