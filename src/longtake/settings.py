"""Everything an operator may set: LONGTAKE_* environment variables, read once into one frozen object."""

import json
import os
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from longtake.errors import InvalidRequest

DEVICE = r"(auto|cpu|mps|cuda(:\d+)?)"

Positive = Annotated[int, Field(gt=0)]
Price = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]

PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _data() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "longtake"


def _cache(name: str) -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longtake" / name


EXAMPLES = {
    "model_sources": '{"MODEL": "/models/folder"}',
    "pools": '{"ENDPOINT": "large"}',
    "prices": '{"ENDPOINT": 0.1}',
}


class PriceSetting(BaseModel):
    """An operator's price of one unit in US dollars; `usd_with_lora`: where a LoRA of the user's is applied."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    usd: Price
    usd_with_lora: Price | None = None


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

    device: Annotated[str, Field(pattern=f"^{DEVICE}$")] = "auto"
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

    prices: Annotated[dict[str, PriceSetting], NoDecode] = Field(default_factory=dict)
    """Endpoint id -> the price of one of its units in US dollars, in place of fal's; as JSON, `{"usd": 0.02}` or just
    0.02; `usd_with_lora` is the price where a LoRA is applied."""

    max_source_bytes: Positive = 2 * 1024**3
    max_source_duration_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2 * 3600.0
    max_source_pixels: Positive = 8192 * 4320
    """Width times height of one frame of a source."""
    max_lora_bytes: Positive = 4 * 1024**3
    prompt_cache_entries: Positive = 64
    data_dir: Path = Field(default_factory=_data)
    """What a server keeps: its database, where `database_url` names no other, files, work in progress, certificates."""
    database_url: str | None = None
    """`postgresql://...`, or `sqlite:///path`; several servers on one PostgreSQL share one queue."""
    public_url: str | None = None
    """The address under which clients reach the server, where it is not the one that they call."""
    slots: Annotated[tuple[str, ...], NoDecode] = ("auto",)
    """The devices that work at the same time, each in a process of its own, as `device` or `device@pool`, separated by
    commas; `none`: this server only takes requests."""
    pools: Annotated[dict[str, str], NoDecode] = Field(default_factory=dict)
    """Endpoint id -> the pool (queue) of its requests, as JSON; those not named are in the pool `default`."""
    preload: str | None = None
    """The endpoint whose model every slot loads before its first request; else the largest one that is here."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ("*",)
    trusted_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Hosts that may be fetched from and called back though their addresses are not public."""
    open_proxy: bool = False
    """Whether /api/fal/proxy serves callers without a key, where keys exist."""

    max_body_bytes: Positive = 100 * 1024**2
    """Of a request's JSON, data URIs included."""
    max_upload_bytes: Positive = 2 * 1024**3
    max_waiting: Positive = 100_000
    """Requests of one pool that may wait; one more is refused with 503."""
    max_attempts: Positive = 3
    """How often a request whose worker died is tried."""
    lease_s: PositiveSeconds = 15
    """A server that did not beat for so long is dead, and its requests go back to the queue."""
    stall_s: PositiveSeconds = 900
    """A worker process that reports no progress for so long is killed."""
    cancel_grace_s: PositiveSeconds = 5
    """A cancelled worker process that works on for so long is killed."""
    drain_s: PositiveSeconds = 600
    """So long a terminated server finishes what it has begun; what is left goes back to the queue."""
    ping_s: PositiveSeconds = 10
    """Silence on an event stream is broken so often."""
    webhook_timeout_s: PositiveSeconds = 15
    upload_s: PositiveSeconds = 3600
    """So long a promised upload may take."""
    result_s: Positive = 7 * 24 * 3600
    """Results and uploads are kept so long, where a request asks for nothing else."""
    log_format: Literal["auto", "console", "json"] = "auto"
    """auto: for people on a terminal, JSON elsewhere."""

    lora_disk_bytes: Positive = 32 * 1024**3
    """Downloaded LoRAs above this are deleted, the longest unused first."""
    lora_cache_bytes: Annotated[int, Field(ge=0)] = 10 * 1024**3
    """Host memory for LoRAs read last: enough for the 7.6 GB of LTX-2.3's distilled one, which most requests use."""

    # Validators before pydantic's own run from the last to the first: the JSON is read, then its prices.
    @field_validator("prices", mode="before")
    @classmethod
    def _price_alone(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {
            name: value if isinstance(value, Mapping | PriceSetting) else {"usd": value}
            for name, value in given.items()
        }

    @field_validator("model_sources", "pools", "prices", mode="before")
    @classmethod
    def _from_json(cls, given: Any, info: ValidationInfo) -> Any:
        if not isinstance(given, str):
            return given
        try:
            return json.loads(given)
        except ValueError:
            raise ValueError(f"must be JSON, as in {EXAMPLES[str(info.field_name)]}") from None

    @field_validator("slots", "cors_origins", "trusted_hosts", mode="before")
    @classmethod
    def _from_list(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        return tuple(part for part in map(str.strip, given.split(",")) if part and part != "none")

    @field_validator("slots")
    @classmethod
    def _slots(cls, slots: tuple[str, ...]) -> tuple[str, ...]:
        for slot in slots:
            if not re.fullmatch(rf"{DEVICE}(@[\w.-]+)?", slot):
                raise ValueError(f"{slot!r} is not a device, as in cuda:0, or a device and its pool, as in cuda:0@ltx")
        return slots

    @field_validator("data_dir", "models_dir", "loras_dir", "safety_checkpoint", "depth_checkpoint", "pose_checkpoint")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path if path is None else path.expanduser().absolute()

    @field_validator("expansion_url", "hf_endpoint", "public_url")
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
    gone = next((name for name in os.environ if name.startswith("LONGTAKE_PRICE_")), None)
    if gone is not None:
        raise InvalidRequest(f"{gone} is no setting any more; LONGTAKE_PRICES names prices by endpoint id, as JSON.")
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
    place = f" for {first['loc'][1]}" if len(first["loc"]) > 1 else ""
    return f"LONGTAKE_{name.upper()}{given} is not a usable value{place}: {reason}."
