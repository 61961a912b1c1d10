"""Settings of a process, read from LONGTAKE_* environment variables into a frozen object."""

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
"""Regular expression of a device name."""

DEFAULT_POOL = "default"
"""The pool of endpoints and slots for which the settings name no other."""

Positive = Annotated[int, Field(gt=0)]
Price = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]

PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _data_folder() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "longtake"


def _cache_folder(name: str) -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longtake" / name


EXAMPLES = {
    "model_sources": '{"MODEL": "/models/folder"}',
    "pools": '{"ENDPOINT": "large"}',
    "prices": '{"ENDPOINT": 0.1}',
}
"""Setting -> an example of its JSON, for error messages."""


class PriceSetting(BaseModel):
    """The operator's price of one unit in US dollars; `usd_with_lora` if the request applies a LoRA, None for no
    difference."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    usd: Price
    usd_with_lora: Price | None = None


class Settings(BaseSettings):
    """The settings of one process. Create it with `settings()`, which reports a wrong value in one sentence."""

    model_config = SettingsConfigDict(env_prefix="LONGTAKE_", frozen=True, extra="ignore", env_ignore_empty=True)

    models_dir: Path = Field(default_factory=lambda: _cache_folder("models"))
    """Folder into which `longtake models pull` downloads each model, in a subfolder named after the model."""
    loras_dir: Path = Field(default_factory=lambda: _cache_folder("loras"))
    """Folder below which requests may name LoRA files. Downloaded LoRAs are in its subfolder `.fetched`."""
    model_sources: Annotated[dict[str, str], NoDecode] = Field(default_factory=dict)
    """Model name -> its folder, checkpoint file or hub repository, in place of `models_dir/<name>`; as JSON."""
    hf_token: SecretStr | None = None
    """Access token of the Hugging Face hub."""
    hf_endpoint: str | None = None
    """URL of the hub; None is the public one."""
    offline: bool = False
    """True forbids downloads from the hub and from LoRA URLs."""

    device: Annotated[str, Field(pattern=f"^{DEVICE}$")] = "auto"
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    quantise: Literal["none", "fp8"] = "none"
    """fp8 stores the transformer's weights in 8 bits and converts one layer at a time."""
    offload: Literal["auto", "none", "model", "group"] = "auto"
    """What is moved between host and device memory: whole parts (model) or groups of layers (group). auto moves only
    what does not fit."""

    acceleration: Literal["none", "regular", "high", "full"] = "none"
    """Step caching level of endpoints whose requests have no field for it."""

    safety: Literal["required", "available", "off"] = "available"
    """required: `safety_checkpoint` must be set. available: the checker runs if it is set. off: it never runs."""
    safety_checkpoint: Path | None = None
    """Folder of the image classifier that checks new frames."""
    expansion_url: str | None = None
    """Base URL of an OpenAI-compatible server that expands prompts."""
    expansion_model: str | None = None
    """Name of the model on that server."""
    expansion_key: SecretStr | None = None
    """API key of that server."""
    depth_checkpoint: Path | None = None
    """Folder of the model that turns a video into depth maps."""
    pose_checkpoint: Path | None = None
    """Folder of the model that turns a video into poses."""

    prices: Annotated[dict[str, PriceSetting], NoDecode] = Field(default_factory=dict)
    """Endpoint id -> price of one unit in US dollars, in place of fal's; as JSON: 0.02, or `{"usd": 0.02}` with an
    optional `usd_with_lora`."""

    max_source_bytes: Positive = 2 * 1024**3
    """Largest source file in bytes."""
    max_source_duration_s: PositiveSeconds = 2 * 3600.0
    """Longest source in seconds."""
    max_source_pixels: Positive = 8192 * 4320
    """Largest width x height of a source's frames in pixels."""
    max_lora_bytes: Positive = 4 * 1024**3
    """Largest LoRA file in bytes."""
    prompt_cache_entries: Positive = 64
    """Number of encoded prompts cached in memory."""
    data_dir: Path = Field(default_factory=_data_folder)
    """Folder of a server's SQLite database (unless `database_url` is set), files, work in progress and certificates."""
    database_url: str | None = None
    """`postgresql://...` or `sqlite:///path`. Servers that use the same PostgreSQL database share one queue."""
    public_url: str | None = None
    """URL under which clients reach the server; None takes it from each request."""
    slots: Annotated[tuple[str, ...], NoDecode] = ("auto",)
    """Devices that work in parallel, each in its own worker process: `device` or `device@pool`, separated by commas.
    With `none` the server accepts requests and carries out none."""
    pools: Annotated[dict[str, str], NoDecode] = Field(default_factory=dict)
    """Endpoint id -> pool (queue) of its requests, as JSON. Endpoints that are not listed use the pool `default`."""
    preload: str | None = None
    """Endpoint whose model every slot loads at start; None loads the largest installed model."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ("*",)
    """Origins whose web pages may call the server, separated by commas; `*` is all."""
    trusted_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Hosts with private addresses that the server may download from and send webhooks to."""
    open_proxy: bool = False
    """True lets callers without a key use /api/fal/proxy on a server that has keys."""

    max_body_bytes: Positive = 100 * 1024**2
    """Largest JSON body of a request in bytes, including data URIs."""
    max_upload_bytes: Positive = 2 * 1024**3
    """Largest uploaded file in bytes."""
    max_waiting: Positive = 100_000
    """Number of waiting requests per pool; further ones get status 503."""
    max_attempts: Positive = 3
    """Number of attempts for a request whose worker dies."""
    lease_s: PositiveSeconds = 15
    """Seconds without a heartbeat after which a server counts as dead and its requests return to the queue."""
    stall_s: PositiveSeconds = 900
    """Seconds without progress after which a worker is killed."""
    cancel_grace_s: PositiveSeconds = 5
    """Seconds that a worker has to stop after a cancel before it is killed."""
    drain_s: PositiveSeconds = 600
    """Seconds that a terminated server has to finish running requests; the others return to the queue."""
    ping_s: PositiveSeconds = 10
    """Seconds between pings on an idle event stream."""
    webhook_timeout_s: PositiveSeconds = 15
    """Seconds that a webhook's receiver has to answer."""
    upload_s: PositiveSeconds = 3600
    """Seconds after which an unfinished upload expires."""
    result_s: Positive = 7 * 24 * 3600
    """Default retention of results and uploads in seconds; a request can override it."""
    log_format: Literal["auto", "console", "json"] = "auto"
    """auto: console on a terminal, JSON elsewhere."""

    lora_disk_bytes: Positive = 32 * 1024**3
    """Disk space for downloaded LoRAs in bytes; beyond it the least recently used ones are deleted."""
    lora_cache_bytes: Annotated[int, Field(ge=0)] = 10 * 1024**3
    """Host memory for recently used LoRAs in bytes; holds the 7.6 GB distill adapter that most LTX-2.3 requests use."""

    # Pydantic runs `before` validators in reverse order: first the JSON is parsed, then bare prices are wrapped.
    @field_validator("prices", mode="before")
    @classmethod
    def _wrap_bare_prices(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {
            name: price if isinstance(price, Mapping | PriceSetting) else {"usd": price}
            for name, price in value.items()
        }

    @field_validator("model_sources", "pools", "prices", mode="before")
    @classmethod
    def _parse_json(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError(f"must be JSON, as in {EXAMPLES[str(info.field_name)]}") from None

    @field_validator("slots", "cors_origins", "trusted_hosts", mode="before")
    @classmethod
    def _split_list(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(part for part in map(str.strip, value.split(",")) if part and part != "none")

    @field_validator("slots")
    @classmethod
    def _check_slots(cls, slots: tuple[str, ...]) -> tuple[str, ...]:
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
    def _check_http(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("http://", "https://")):
            raise ValueError("must be an http:// or https:// address")
        return url

    @model_validator(mode="after")
    def _check_combinations(self) -> "Settings":
        if self.safety == "required" and self.safety_checkpoint is None:
            raise ValueError("safety is required, so LONGTAKE_SAFETY_CHECKPOINT must name a classifier's folder")
        if self.expansion_url is not None and self.expansion_model is None:
            raise ValueError("expansion_url is set, so LONGTAKE_EXPANSION_MODEL must name the server's model")
        return self


def settings(**overrides: Any) -> Settings:
    """Returns the settings of the environment, with `overrides` by field name.

    Raises InvalidRequest that names the first wrong variable, its value and what would be right.
    """
    removed = next((name for name in os.environ if name.startswith("LONGTAKE_PRICE_")), None)
    if removed is not None:
        raise InvalidRequest(f"{removed} is no setting any more; LONGTAKE_PRICES names prices by endpoint id, as JSON.")
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
    value = "" if secret else f"={str(first['input'])[:200]}"
    place = f" for {first['loc'][1]}" if len(first["loc"]) > 1 else ""
    return f"LONGTAKE_{name.upper()}{value} is not a usable value{place}: {reason}."
