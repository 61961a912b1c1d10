"""The library's face: `longtake.extend`, `longtake.plan` and `longtake.load`, with the command line's defaults.

Importing it loads no torch; carrying out a request does.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, get_args

from longtake import endpoints
from longtake.endpoints import ENDPOINTS, Endpoint
from longtake.errors import InvalidRequest
from longtake.media.fetch import localise
from longtake.media.formats import OutputType, recipe
from longtake.models.registry import ModelCard, card
from longtake.parameters import LocalRequest, UserInput, local_request
from longtake.plans import Plan
from longtake.prepare import Fetcher, Job, prepare
from longtake.settings import Settings, settings
from longtake.video import OnProgress, ignore_progress

if TYPE_CHECKING:
    from longtake.runner import Result, Runner

Source = str | PathLike[str]
"""A path, an http(s) URL or a data URI."""


def extend(
    source: Source,
    out: str | PathLike[str],
    *,
    prompt: str = "",
    endpoint: str = endpoints.DEFAULT,
    model: str | None = None,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
    **parameters: Any,
) -> "Result":
    """Writes a longer video to `out` and returns what is known of it. The whole source is kept and 96 frames are added.

    `endpoint`: whose parameters count, by short name or id; `model`: a model by name, else the endpoint's own, or the
    embedded one where that is not installed. `parameters` are named as the command line's options: `new_frames`,
    `seed`, `num_frames`, `lora`, `quality`, ... The type of the file follows from the suffix of `out`. `on_progress` is
    called at every step; an exception that it raises cancels the work. Raises longtake.errors.LongtakeError.
    """
    here = settings()
    given = _input(source, prompt, parameters, output_type(Path(out)))
    call = local_request(endpoints.endpoint(endpoint), given, here, model)
    return _extend(call, runner(here), here, Path(out), overwrite=overwrite, on_progress=on_progress)


def plan(
    source: Source, *, prompt: str = "", endpoint: str = endpoints.DEFAULT, model: str | None = None, **parameters: Any
) -> Plan:
    """The plan that `extend` would carry out for the same arguments; no model is loaded. Raises LongtakeError."""
    here = settings()
    call = local_request(endpoints.endpoint(endpoint), _input(source, prompt, parameters), here, model)
    with opened(call, here) as job:
        return job.plan


def load(model: str) -> "Model":
    """A model by name, loaded and kept: `with longtake.load("ltx-2.3") as model: model.extend(...)`."""
    return Model(card(model), settings())


class Model:
    """A loaded model that extends one video after the other.

    Its memory is freed at the end of the `with` block, or by `close`; a later call loads it again.
    """

    def __init__(self, card: ModelCard, settings: Settings) -> None:
        self.card = card
        self._settings = settings
        self._runner = runner(settings)
        self._runner.load(card)

    def extend(
        self,
        source: Source,
        out: str | PathLike[str],
        *,
        prompt: str = "",
        endpoint: str | None = None,
        overwrite: bool = False,
        on_progress: OnProgress | None = None,
        **parameters: Any,
    ) -> "Result":
        """As `longtake.extend`, by this model; without an `endpoint`, by the first one that is made for it."""
        chosen = endpoint_for(self.card) if endpoint is None else endpoints.endpoint(endpoint)
        given = _input(source, prompt, parameters, output_type(Path(out)))
        call = local_request(chosen, given, self._settings, self.card.name)
        return _extend(call, self._runner, self._settings, Path(out), overwrite=overwrite, on_progress=on_progress)

    def close(self) -> None:
        """Frees the model's memory."""
        self._runner.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def endpoint_for(card: ModelCard) -> Endpoint[Any, Any]:
    """The first endpoint that is made for a model, by its own weights or with it as the stand-in."""
    default = endpoints.endpoint(endpoints.DEFAULT)
    return next(one for one in (default, *ENDPOINTS.values()) if card.name in one.models)


def _input(source: Source, prompt: str, parameters: Mapping[str, Any], output: OutputType | None = None) -> UserInput:
    """The arguments of the library's functions as one input; an empty prompt is none."""
    named = dict(parameters) | ({"prompt": prompt} if prompt else {})
    return UserInput(named, os.fsdecode(source), output=output)


def _extend(
    call: LocalRequest,
    runner: "Runner",
    settings: Settings,
    out: Path,
    *,
    overwrite: bool,
    on_progress: OnProgress | None,
) -> "Result":
    check_writable(out, call.endpoint.source_url(call.request), overwrite=overwrite, remedy="overwrite=True")
    with opened(call, settings) as job:
        return runner.run(job, out, on_progress=on_progress or ignore_progress)


def runner(settings: Settings) -> "Runner":
    """A runner for this machine's own user: LoRA files may lie anywhere, and are fetched from anywhere."""
    from longtake.runner import Runner

    def fetch(url: str, folder: Path, max_bytes: int) -> Path:
        return localise(url, folder, max_bytes=max_bytes)

    return Runner(settings, fetch=fetch, any_path=True)


@contextmanager
def opened(call: LocalRequest, settings: Settings) -> Iterator[Job]:
    """The job of a request, open as long as the block. The source may be a path of this machine."""
    fetcher = Fetcher(allow_local=True)
    with prepare(call.endpoint, call.request, call.card, settings, overrides=call.overrides, fetcher=fetcher) as job:
        yield job


def output_type(out: Path) -> OutputType:
    """The type of a file of this name. Raises InvalidRequest for a suffix that no type has."""
    types: dict[str, OutputType] = {recipe(type, "high", "balanced").suffix: type for type in get_args(OutputType)}
    if out.suffix.lower() not in types:
        raise InvalidRequest(
            f"{out.name} ends in {out.suffix or 'no suffix'}; its type is told by one of {', '.join(types)}.",
            loc=("output",),
            value=str(out),
        )
    return types[out.suffix.lower()]


def check_writable(out: Path, source: str, *, overwrite: bool, remedy: str) -> None:
    """Raises InvalidRequest unless `out` can be written without harm: nothing is lost that is not meant to be.

    `remedy`: the option that allows to overwrite a file that is there, as the message names it.
    """
    if out.is_dir():
        raise _refusal(out, f"{out} is a folder; the output needs a file name.")
    if not out.parent.is_dir():
        raise _refusal(out, f"There is no folder {out.parent} to write {out.name} into.")
    if out.exists() and _is_same(out, source):
        raise _refusal(out, f"{out} is the source itself; the output needs another name.")
    if out.exists() and not overwrite:
        raise _refusal(out, f"{out} is there already; {remedy} overwrites it.")
    try:
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise _refusal(out, f"Nothing can be written into the folder {out.parent}: {error.strerror}.") from None


def _is_same(out: Path, source: str) -> bool:
    try:
        return out.samefile(source)
    except (OSError, ValueError):  # a URL or a data URI
        return False


def _refusal(out: Path, reason: str) -> InvalidRequest:
    return InvalidRequest(reason, loc=("output",), value=str(out))
