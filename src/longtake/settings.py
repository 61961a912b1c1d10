"""Everything an operator may set: LONGTAKE_* environment variables, read once into one frozen object."""

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from longtake.errors import InvalidRequest

Positive = Annotated[int, Field(gt=0)]
Price = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]


def _cache(name: str) -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longtake" / name


class Settings(BaseSettings):
    """The settings of one process. Build it with `settings()`, which says what is wrong in a sentence."""

    model_config = SettingsConfigDict(env_prefix="LONGTAKE_", frozen=True, extra="ignore", env_ignore_empty=True)

    models_dir: Path = Field(default_factory=lambda: _cache("models"))
    """Each model in a folder of its own name; what `longtake models pull` writes."""
    loras_dir: Path = Field(default_factory=lambda: _cache("loras"))
    """The folder below which a request may name LoRA files; downloaded ones are kept in `.fetched`."""
    model_sources: Annotated[dict[str, str], NoDecode] = Field(default_factory=dict)
    """Model name -> a folder, a checkpoint file, or a hub repository, instead of `models_dir/<name>`; as JSON."""
    hf_token: SecretStr | None = None
    hf_endpoint: str | None = None
    """The hub's address, where it is not the public one."""
    offline: bool = False
    """Never ask the hub, nor any URL of a LoRA."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    quantise: Literal["none", "fp8"] = "none"
    """fp8: the transformer's weights are stored in 8 bits and cast layer by layer."""
    offload: Literal["auto", "none", "model", "group"] = "auto"
    """auto: keep everything on the device when it fits, else move parts (model) or groups of layers (group)."""

    acceleration: Literal["none", "regular", "high", "full"] = "none"
    """Step caching for the endpoints whose requests cannot ask for it, those of 0.9.x."""

    safety: Literal["required", "available", "off"] = "available"
    safety_checkpoint: Path | None = None
    expansion_url: str | None = None
    """The base URL of an OpenAI-compatible server that expands prompts."""
    expansion_model: str | None = None
    expansion_key: SecretStr | None = None
    depth_checkpoint: Path | None = None
    pose_checkpoint: Path | None = None

    price_ltxv097_per_video: Price = Decimal("0.12")
    price_ltxv098_per_second: Price = Decimal("0.02")
    price_ltxv098_detail_factor: Positive = 2
    price_ltx2_per_megapixel: Price = Decimal("0.001605")
    price_ltx2_per_megapixel_with_lora: Price = Decimal("0.001805")

    max_source_bytes: Positive = 2 * 1024**3
    max_source_duration_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2 * 3600.0
    max_source_pixels: Positive = 8192 * 4320
    """Width times height of one frame of a source."""
    max_lora_bytes: Positive = 4 * 1024**3
    prompt_cache_entries: Positive = 64
    lora_disk_bytes: Positive = 32 * 1024**3
    """Downloaded LoRAs above this are deleted, the longest unused first."""
    lora_cache_bytes: Annotated[int, Field(ge=0)] = 10 * 1024**3
    """Host memory for LoRAs read last: enough for the 7.6 GB of LTX-2.3's distilled one, which most requests use."""

    @field_validator("model_sources", mode="before")
    @classmethod
    def _from_json(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        try:
            return json.loads(given)
        except ValueError:
            raise ValueError('must be JSON, as in {"ltxv-13b-0.9.8-distilled": "/models/distilled"}') from None

    @field_validator("models_dir", "loras_dir", "safety_checkpoint", "depth_checkpoint", "pose_checkpoint")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path if path is None else path.expanduser().absolute()

    @field_validator("expansion_url", "hf_endpoint")
    @classmethod
    def _http(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("http://", "https://")):
            raise ValueError("must be an http:// or https:// address")
        return url

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        if self.safety == "required" and self.safety_checkpoint is None:
            raise ValueError("safety is required, so LONGTAKE_SAFETY_CHECKPOINT must name a classifier's folder")
        if self.expansion_url is not None and self.expansion_model is None:
            raise ValueError("expansion_url is set, so LONGTAKE_EXPANSION_MODEL must name the server's model")
        return self


def settings(**overrides: Any) -> Settings:
    """The settings of the environment, with `overrides` by field name.

    Raises `InvalidRequest` that names the first bad variable, its value and what would be right.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise InvalidRequest(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    reason = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return f"The settings do not fit together: {reason}."
    name = str(first["loc"][0])
    field = Settings.model_fields.get(name)
    secret = field is not None and "SecretStr" in str(field.annotation)
    given = "" if secret else f"={str(first['input'])[:200]}"
    return f"LONGTAKE_{name.upper()}{given} is not a usable value: {reason}."
