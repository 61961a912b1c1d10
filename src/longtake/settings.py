"""Settings of a process, read from LONGTAKE_* environment variables into a frozen object."""

import ipaddress
import json
import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from longtake.device_setting import check_device
from longtake.errors import FolderNotMade, InvalidRequest, os_reason
from longtake.price_setting import PriceSetting

PREFIX = "LONGTAKE_"
"""The beginning of the names of all environment variables that are settings."""

DEFAULT_POOL = "default"
"""The pool of each endpoint and device for which the settings name no pool. A pool is a named group of devices."""

Positive = Annotated[int, Field(gt=0)]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


NO_HOME = Path(os.devnull).absolute() / "no-home-folder"
"""Stands for the home folder of a user who has none. Nothing exists below it, and nothing can be created there."""


def _home() -> Path:
    """Returns the user's home folder, or NO_HOME (a path that cannot exist) if it is unknown.

    It is unknown if HOME is not set and the system does not know the process's user id, as in some containers.
    """
    try:
        return Path.home()
    except RuntimeError:
        return NO_HOME


def _data_folder() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or _home() / ".local" / "share") / "longtake"


def _cache_folder(name: str) -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache") / "longtake" / name


def expanded(path: str) -> Path:
    """Returns `path` with `~` at its start replaced by the home folder; unchanged if the home folder is unknown."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def make_folder(folder: Path, setting: str, *, mode: int = 0o777) -> None:
    """Creates a folder that a setting names, unless it exists.

    setting: the setting's name, such as `data_dir`.
    mode: the permissions of a new folder.

    Raises FolderNotMade if the folder cannot be created.
    """
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        variable = f"{PREFIX}{setting.upper()}"
        if NO_HOME in folder.parents:
            raise FolderNotMade(variable, None, "this user has no home folder") from None
        raise FolderNotMade(variable, folder, os_reason(error)) from None


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError:
        raise ValueError("the home folder that ~ stands for is unknown") from None


Folder = Annotated[Path, AfterValidator(_absolute)]

EXAMPLES = {
    "model_sources": '{"MODEL": "/models/folder"}',
    "pools": '{"ENDPOINT": "large"}',
    "prices": '{"ENDPOINT": 0.1}',
}
"""An example value of each setting that is written as JSON, for error messages."""


class Settings(BaseSettings):
    """The settings of one process. The environment variable LONGTAKE_MODELS_DIR sets the field `models_dir`, and so on.

    In the source, a text below each field describes it. Create the object with the function `settings`, which reports a
    wrong value in one sentence.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    models_dir: Folder = Field(default_factory=lambda: _cache_folder("models"))
    """Folder into which `longtake models pull` downloads each model, in a subfolder named after the model."""
    compiled_dir: Folder = Field(default_factory=lambda: _cache_folder("compiled"))
    """Folder of compiled code (see `compile`), and of what was measured to be faster on this machine. If nothing can be
    written there, each process compiles and measures for itself."""
    loras_dir: Folder = Field(default_factory=lambda: _cache_folder("loras"))
    """Folder of LoRA files. Requests may name files in it and below it. Downloads are stored in `.fetched` below it."""
    model_sources: Annotated[dict[str, str], NoDecode] = Field(default_factory=dict)
    """Other places of models than `models_dir/<name>`: a JSON object that maps a model's name to a folder, a checkpoint
    file or a hub repository."""
    hf_token: SecretStr | None = None
    """Access token for the Hugging Face hub; None downloads without a token."""
    hf_endpoint: str | None = None
    """URL of the Hugging Face hub; None means the public one."""
    offline: bool = False
    """If True, nothing is downloaded from the Hugging Face hub or from the URLs of LoRAs."""
    stand_in: Literal["auto", "allow", "refuse"] = "auto"
    """Whether a miniature (a small model in the package) carries out the requests to a model that is not installed.
    auto: only if no published model is installed. allow: always. refuse: never; such a request ends with status 503."""
    carry_detail: Literal["stand-in", "always", "never"] = "stand-in"
    """Whether the source's fine detail and motion are added to the new frames, because a small model draws blurred
    shapes. stand-in: if a miniature stands in for a published model. always: for every model. never: for none."""

    device: Annotated[str, AfterValidator(check_device)] = "auto"
    """Device of the models: cuda (or cuda:N), mps or cpu. auto: the first of these that the machine has. GPUs of one
    kind, joined by +, share out the predictions of one request: `cuda:0+cuda:1`."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Number format of the models. auto: bfloat16 on an accelerator (float16 if it has no bfloat16), float32 on a CPU
    and for the small models in the package."""
    threads: Positive | None = None
    """Number of processor threads with which torch computes on a CPU; None means torch's own choice, which is one for
    each core. Results do not depend on it."""
    quantise: Literal["none", "fp8"] = "none"
    """fp8: the weights of the transformer's blocks are 8-bit floats. On a CUDA GPU of compute capability 8.9 or more
    with compiled blocks, most products are computed in 8 bits, too. none: all weights have `dtype`."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether the transformer's blocks are compiled when a model is loaded, so that they compute faster. auto: on a
    CUDA GPU of compute capability 8.0 or more, if there is a compiler."""
    offload: Literal["auto", "none", "model", "group"] = "auto"
    """The movement of weights between host and device memory. none: all parts stay on the device. model: each part is
    on the device while it runs. group: the large parts are moved in groups of layers. auto: the fastest that fits."""

    acceleration: Literal["none", "regular", "high", "full"] = "none"
    """How many sampling steps extrapolate earlier predictions instead of running the model, for requests that do not
    set it. none: no step does."""

    safety: Literal["required", "available", "off"] = "available"
    """The rule for running the safety checker. required: always; `safety_checkpoint` must be set. available: if
    `safety_checkpoint` is set. off: never."""
    safety_checkpoint: Folder | None = None
    """Folder of the image classifier that checks new frames; None means that there is none."""
    expansion_url: str | None = None
    """Base URL of the OpenAI-compatible server that expands prompts; None means that there is none."""
    expansion_model: str | None = None
    """Name of the language model on the server at `expansion_url`; required if that is set."""
    expansion_key: SecretStr | None = None
    """API key for the server at `expansion_url`; None sends no key."""
    depth_checkpoint: Folder | None = None
    """Folder of the model that turns a video into depth maps; None refuses requests that need it."""
    pose_checkpoint: Folder | None = None
    """Folder of the model that turns a video into poses; None refuses requests that need it."""

    prices: Annotated[dict[str, PriceSetting], NoDecode] = Field(default_factory=dict)
    """Prices of one billed unit in US dollars instead of fal's prices: a JSON object that maps an endpoint's id to a
    number (0.02) or to an object with the fields of PriceSetting (`{"usd": 0.02, "usd_with_lora": 0.03}`)."""

    max_source_bytes: Positive = 2 * 1024**3
    """Largest source file in bytes."""
    max_source_duration_s: PositiveSeconds = 2 * 3600.0
    """Longest source in seconds."""
    max_source_pixels: Positive = 8192 * 4320
    """Largest width x height of a source's frames in pixels."""
    max_lora_bytes: Positive = 4 * 1024**3
    """Largest LoRA file in bytes."""
    prompt_cache_entries: Positive = 64
    """Largest number of encoded prompts that each loaded model caches in memory."""
    data_dir: Folder = Field(default_factory=_data_folder)
    """Folder of the server's data: files, work in progress, certificates and, without a `database_url`, the SQLite
    database."""
    database_url: str | None = None
    """`postgresql://...` or `sqlite:///path`; None means a SQLite file in `data_dir`. Servers that use the same
    PostgreSQL database share one queue."""
    public_url: str | None = None
    """URL of the server that is written into its answers; None uses the address that the client called."""
    slots: Annotated[tuple[str, ...], NoDecode] = ("auto",)
    """Devices that work in parallel, each in its own worker process, separated by commas. `device@pool` carries out the
    requests of that pool (see the setting `pools`), and `device` those of the pool `default`. `auto` is the device that
    the setting `device` chooses. Devices joined by + carry out each request together, as in `cuda:0+cuda:1`. With
    `none` there are no worker processes, and the server only accepts requests."""
    pools: Annotated[dict[str, str], NoDecode] = Field(default_factory=dict)
    """The pool (a named group of devices) that carries out each endpoint's requests: a JSON object that maps an
    endpoint's id to a pool's name. Endpoints that are not in it use the pool `default`. The setting `slots` says which
    devices a pool has."""
    preload: str | None = None
    """Id of the endpoint whose model each worker process loads at its start; None loads the largest installed model."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ("*",)
    """Origins whose web pages may call the server, separated by commas; `*` means all."""
    trusted_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Hosts with private addresses, separated by commas, that the server may download from and send webhooks to."""
    open_proxy: bool = False
    """If True, callers without a key may use /api/fal/proxy, even if the server requires keys."""
    share_links: bool | None = None
    """If True, all who know the address of a result's file may see its request. None: True if no API key exists."""

    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ("127.0.0.1", "::1")
    """Addresses of reverse proxies, or networks of them such as `10.0.0.0/8`, separated by commas. The server trusts
    their headers X-Forwarded-For and X-Forwarded-Proto. If an address of this machine is listed, these headers are
    trusted from every program on this machine."""
    max_connections: Positive = 1000
    """Largest number of open connections; at most about half as many as the files that the process may open. When it is
    reached, the connection that has waited longest without a complete request is closed."""
    max_connections_per_peer: Positive = 500
    """Largest number of open connections of one client. An IPv4 address or a /64 IPv6 network counts as one client."""
    max_streams_per_key: Positive = 200
    """Largest number of open event streams of one key."""
    key_requests_per_minute: Positive | None = None
    """Largest number of requests that one key may submit per minute, valid or not; None means no limit."""
    key_bytes_per_hour: Positive | None = None
    """Largest number of bytes that one key may send per hour, in bodies and uploads; None means no limit."""
    max_body_bytes: Positive = 100 * 1024**2
    """Largest JSON body of a request in bytes, including data URIs."""
    max_upload_bytes: Positive = 2 * 1024**3
    """Largest uploaded file in bytes."""
    fetch_places: Positive = 8
    """Largest number of files that the server downloads at the same time for waiting requests. API keys share them
    evenly."""
    fetch_ahead: Positive = 16
    """Largest number of waiting requests of one API key to one pool (named group of devices) whose files are downloaded
    in advance."""
    fetched_bytes: Positive = 64 * 1024**3
    """Disk space in bytes for downloads of the waiting requests of each pool (a named group of devices). One key may
    use half."""
    fetch_min_rate: Positive = 256 * 1024
    """Smallest rate of a download in bytes per second, over each `fetch_window_s`. A slower download fails."""
    fetch_window_s: PositiveSeconds = 30
    """Seconds over which the rate of a download is measured."""
    fetch_s: PositiveSeconds = 3600
    """Seconds that the download of one file may last, with all redirects and attempts."""
    max_waiting: Positive = 100_000
    """Largest number of waiting requests in each pool (named group of devices). A request above this limit is refused
    with status 503."""
    max_attempts: Positive = 3
    """Largest number of attempts to carry out a request whose worker process or server dies."""
    lease_s: PositiveSeconds = 15
    """Seconds without a heartbeat after which a server counts as dead and its requests return to the queue."""
    stall_s: PositiveSeconds = 900
    """Seconds without a message from a worker process after which it is killed."""
    cancel_grace_s: PositiveSeconds = 5
    """Seconds that a worker process has to stop after a request is cancelled; then it is killed."""
    drain_s: PositiveSeconds = 600
    """Seconds that a server has to finish its running requests after SIGTERM. Unfinished ones return to the queue."""
    ping_s: PositiveSeconds = 10
    """Seconds between pings on an idle event stream."""
    webhook_timeout_s: PositiveSeconds = 15
    """Seconds that the receiver of a webhook has to answer one delivery."""
    upload_s: PositiveSeconds = 3600
    """Seconds after which an unfinished upload expires."""
    result_s: Positive = 7 * 24 * 3600
    """Seconds that results and uploads are stored, unless the request sets another time."""
    payload_s: PositiveSeconds = 7 * 24 * 3600
    """Seconds after the end of a request for which its input, result, plan and log are stored."""
    history_s: PositiveSeconds = 90 * 24 * 3600
    """Seconds after the submission of a request for which its status, times and costs are stored."""
    log_format: Literal["auto", "console", "json"] = "auto"
    """Format of log lines. auto: `console` on a terminal, `json` elsewhere."""

    lora_disk_bytes: Positive = 32 * 1024**3
    """Disk space for downloaded LoRAs in bytes. Above it the least recently used ones are deleted."""
    lora_cache_bytes: Annotated[int, Field(ge=0)] = 10 * 1024**3
    """Host memory for recently used LoRAs in bytes. The distill adapter of most LTX-2.3 requests has 7.6 GB."""

    @model_validator(mode="before")
    @classmethod
    def _cache_without_home(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Returns `values` (the settings that are set, by name). `models_dir`, `compiled_dir` and `loras_dir` are by
        default in the home folder. If there is none, they are set to folders in `data_dir`.

        Settings that are set stay unchanged, and so do all if `data_dir` is not set.
        """
        folder = values.get("data_dir")
        if not folder or NO_HOME not in _cache_folder("models").parents:
            return values
        return {f"{name}_dir": Path(folder) / name for name in ("models", "compiled", "loras")} | values

    # Pydantic runs `before` validators in reverse order, so the JSON is parsed first and bare prices are wrapped then.
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

    @field_validator("slots", "cors_origins", "trusted_hosts", "trusted_proxies", mode="before")
    @classmethod
    def _split_list(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(part for part in map(str.strip, value.split(",")) if part and part != "none")

    @field_validator("slots")
    @classmethod
    def _check_slots(cls, slots: tuple[str, ...]) -> tuple[str, ...]:
        for slot in slots:
            device, at, pool = slot.partition("@")
            check_device(device)
            if at and not re.fullmatch(r"[\w.-]+", pool):
                raise ValueError(f"{slot!r} is not a device and its pool, as in cuda:0@ltx")
        return slots

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError:
                raise ValueError(f"{proxy!r} is not an IP address or network, as in 10.0.0.2 or 10.0.0.0/8") from None
        return proxies

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
    """Returns the settings from the environment variables. `overrides` (field name = value) replace single settings.

    Raises an InvalidRequest that names the first wrong variable, its value and what would be right.
    """
    removed = next((name for name in os.environ if name.startswith("LONGTAKE_PRICE_")), None)
    if removed is not None:
        raise InvalidRequest(f"{removed} is no setting any more; LONGTAKE_PRICES names prices by endpoint id, as JSON.")
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise InvalidRequest(_sentence(error)) from None


def unknown_settings() -> dict[str, str]:
    """Returns the environment variables that begin with LONGTAKE_ but are no settings, as name -> text for the user.

    The text also names the setting with the most similar name, if one is similar.
    """
    found = {}
    for name in sorted(os.environ):
        field = name.lower().removeprefix(PREFIX.lower())
        if name.upper().startswith(PREFIX) and field not in Settings.model_fields:
            near = get_close_matches(field, Settings.model_fields, 1)
            hint = f"; perhaps {PREFIX}{near[0].upper()} is meant" if near else ""
            found[name] = f"no such setting, so it has no effect{hint}"
    return found


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    reason = first["msg"].removeprefix("Value error, ").replace("Input should", "it must").partition(", unable to")[0]
    if not first["loc"]:
        return f"The settings do not fit together: {reason}."
    name = str(first["loc"][0])
    field = Settings.model_fields.get(name)
    secret = field is not None and "SecretStr" in str(field.annotation)
    value = "" if secret else f"={str(first['input'])[:200]}"
    place = f" for {first['loc'][1]}" if len(first["loc"]) > 1 else ""
    return f"LONGTAKE_{name.upper()}{value} is not a usable value{place}: {reason}."
