"""The Python API: `longtake.extend`, `longtake.plan` and `longtake.load`. The defaults are those of the command line.

Importing this module does not import torch; calling `extend` or `load` does.
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
from longtake.endpoints.validation import errors_at
from longtake.errors import InvalidRequest
from longtake.imports import importing_models
from longtake.media.fetch import fetch_file, local_file, pace_of
from longtake.media.formats import OutputType, output_format
from longtake.models.lora_check import check_local_lora
from longtake.models.lora_files import LoraSources
from longtake.models.lora_names import Lora
from longtake.models.registry import ModelCard, card
from longtake.parameters import LocalRequest, UserInput, local_request
from longtake.plans import Plan
from longtake.prepare import Fetcher, Job, prepare
from longtake.settings import Settings, settings
from longtake.threads import prepare_threads
from longtake.video import OnProgress, ignore_progress

if TYPE_CHECKING:
    from longtake.runner import Result, Runner

Source = str | PathLike[str]
"""The type of a source: the path, the URL (http, https or file) or the data URI of a video."""


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
    """Writes a longer video to `out` and returns the result. By default, 96 new frames are added to the whole source.

    source: the video: a path, a URL (http, https or file) or a data URI.
    out: path of the new file. Its suffix decides the file type: .mp4, .webm, .mov or .gif.
    prompt: what the new frames show. Most endpoints require one.
    endpoint: short name or id of one of the endpoints of longtake's HTTP API. It decides which models can be used, and
        the fields of its requests can be given as `parameters`.
    model: name of a model. None means the endpoint's published model. If that is not installed, a small model in the
        package stands in for it, and a note of the result says so. It is an error if the setting `stand_in` does not
        allow that.
    overwrite: True if `out` may be replaced; otherwise an existing file is an error.
    on_progress: called at every step with a `longtake.video.Progress`. It can cancel the work by raising an exception.
    parameters: any other options of the command line for this endpoint, with underscores for dashes: `new_frames`,
        `seed`, `num_frames`, `lora`, `quality` ...

    Raises a subclass of longtake.errors.LongtakeError. The file appears at `out` only when it is complete.
    """
    current = settings()
    user_input = _user_input(source, prompt, parameters, output_type(Path(out)))
    call = local_request(endpoints.endpoint(endpoint), user_input, current, model)
    return _extend(call, local_runner(current), current, Path(out), overwrite=overwrite, on_progress=on_progress)


def plan(
    source: Source, *, prompt: str = "", endpoint: str = endpoints.DEFAULT, model: str | None = None, **parameters: Any
) -> Plan:
    """Returns the plan that `extend` would carry out for the same arguments.

    The source is read, but no model is loaded. Raises a subclass of longtake.errors.LongtakeError.
    """
    current = settings()
    call = local_request(endpoints.endpoint(endpoint), _user_input(source, prompt, parameters), current, model)
    with open_job(call, current) as job:
        return job.plan


def load(model: str) -> "Model":
    """Loads a model once for several calls: `with longtake.load("ltx-2.3") as model: model.extend(...)`.

    `model` is the name of a model. Raises a subclass of longtake.errors.LongtakeError if there is no such model or if
    it cannot be loaded.
    """
    return Model(card(model), settings())


class Model:
    """A loaded model that extends any number of videos.

    `close`, or the end of a `with` block of the model, frees its memory. A later call of `extend` loads the model
    again.
    """

    def __init__(self, card: ModelCard, settings: Settings) -> None:
        self.card = card
        self._settings = settings
        self._runner = local_runner(settings)
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
        """Writes a longer video to `out` and returns the result, as `longtake.extend` does with the same arguments, but
        always with this model.

        endpoint: short name or id of an endpoint. None means the default endpoint or, if it cannot use the model, the
            first endpoint that can.
        """
        chosen = endpoint_for(self.card) if endpoint is None else endpoints.endpoint(endpoint)
        user_input = _user_input(source, prompt, parameters, output_type(Path(out)))
        call = local_request(chosen, user_input, self._settings, self.card.name)
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
    """Returns the default endpoint if it can use the model, otherwise the first endpoint that can.

    Each model can be used by at least one endpoint.
    """
    default = endpoints.endpoint(endpoints.DEFAULT)
    return next(one for one in (default, *ENDPOINTS.values()) if card.name in one.models)


def _user_input(
    source: Source, prompt: str, parameters: Mapping[str, Any], output: OutputType | None = None
) -> UserInput:
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
    call.model.check()
    with open_job(call, settings) as job:
        return runner.run(job, out, on_progress=on_progress or ignore_progress)


def local_runner(settings: Settings) -> "Runner":
    """Returns a runner (it loads models and runs jobs) for jobs of this machine's user.

    Unlike the clients of a server, this user may name any local file, URL or hub repository as a LoRA.
    """
    prepare_threads()
    with importing_models():
        from longtake.runner import Runner

    def fetch(url: str, folder: Path, max_bytes: int) -> Path:
        return fetch_file(url, folder, max_bytes=max_bytes, pace=pace_of(settings))

    return Runner(settings, LoraSources(fetch, any_path=True))


@contextmanager
def open_job(call: LocalRequest, settings: Settings) -> Iterator[Job]:
    """Context manager that makes a request ready to run, and gives it as a job: its plan and its opened source.

    The source is closed when the `with` block ends.

    `call`: the request, its endpoint, its model, and the values that replace some of the request's options. The source
        may be a local path.

    Raises a subclass of LongtakeError if the source cannot be read, the request cannot be planned, or a LoRA that
    should be on this machine is not there or is no LoRA.
    """
    fetcher = Fetcher(allow_local=True)
    with prepare(call.endpoint, call.request, call.model, settings, overrides=call.overrides, fetcher=fetcher) as job:
        for adapter in job.adapters:
            if adapter.field[:2] == ("body", "loras"):
                with errors_at(adapter.field[1:], adapter.source):
                    check_local_lora(Lora(adapter.source, adapter.weight_name), settings)
        yield job


def output_type(out: Path) -> OutputType:
    """Returns the output type for the suffix of `out`, such as .mp4. Raises InvalidRequest for an unknown suffix."""
    types: dict[str, OutputType] = {
        output_format(type, "high", "balanced").suffix: type for type in get_args(OutputType)
    }
    if out.suffix.lower() not in types:
        raise InvalidRequest(
            f"The output {str(out)!r} ends in {out.suffix or 'no suffix'}; it must end in one of {', '.join(types)}.",
            loc=("output",),
            value=str(out),
        )
    return types[out.suffix.lower()]


def check_writable(out: Path, source: str, *, overwrite: bool, remedy: str) -> None:
    """Raises InvalidRequest if `out` cannot be written, is the source itself, or exists and `overwrite` is False.

    `source` is the path or URL of the source. `remedy` is the option that allows overwriting, such as `overwrite=True`;
    the error message names it.
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
    local = local_file(source)
    return local is not None and out.samefile(local)


def _refusal(out: Path, reason: str) -> InvalidRequest:
    return InvalidRequest(reason, loc=("output",), value=str(out))
