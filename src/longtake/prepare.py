"""Prepares a request: fetches and opens its video, and makes the plan.

These are steps 2 and 3 of "The way of a request" in README.md. This module imports no torch.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from longtake.endpoints import Endpoint
from longtake.endpoints.label import label
from longtake.endpoints.validation import errors_at
from longtake.media.fetch import fetch_file, pace_of
from longtake.media.limits import Limits
from longtake.media.source import SourceReader, open_source
from longtake.media.still import open_still
from longtake.models.choice import ModelChoice
from longtake.models.lora_files import OpenOwn, no_own_file
from longtake.models.registry import ModelCard
from longtake.planning import NO_OVERRIDES, Overrides, check_family, check_parts, planned
from longtake.plans import Plan, PlannedAdapter, shortened_url
from longtake.settings import Settings
from longtake.temporary import temporary_folder
from longtake.video import Check, no_check

TRANSPARENT_IMAGE_NOTE = "Parts of the end image are transparent; they are shown over black."


@dataclass(frozen=True)
class Job:
    """A request that is ready to run.

    `endpoint`: the endpoint of the request.
    `model`: the model that carries it out.
    `source`: the source video, open for reading.
    `plan`: the plan of the generation.
    `adapters`: the adapters of the plan, with their full sources. In the plan itself, which is stored and shown, a
        source that is a data URI is shortened. To read an adapter, use this field.
    `end_image`: the picture that the new frames lead to, RGB [H, W, 3], not scaled yet; None if the request has none.
    `label`: the comment for the output file, which says what made it (see `endpoints.label`); empty for none.
    `notes`: sentences for the user about files that were read after the plan was made.
    """

    endpoint: Endpoint[Any, Any]
    model: ModelChoice
    source: SourceReader
    plan: Plan
    adapters: tuple[PlannedAdapter, ...] = ()
    end_image: NDArray[np.uint8] | None = None
    label: str = ""
    notes: tuple[str, ...] = ()

    @property
    def card(self) -> ModelCard:
        """The card of the model."""
        return self.model.card


@dataclass(frozen=True)
class Fetcher:
    """Fetches the files that a request names.

    `allow_local`: True if a request may name paths of this machine.
    `open_own`: opens the files that a server stores itself.
    `transport`: the httpx transport that sends the HTTP requests; a server's transport refuses private hosts. With None
        every host is allowed.
    `folder`: the folder where downloads are saved, so that a later attempt does not fetch them again. With None they
        are saved in a temporary folder and deleted when the job ends.
    `check`: a function that is called during a download, and while the video or picture is read. It may end both by
        raising an exception.
    """

    allow_local: bool = False
    open_own: OpenOwn = no_own_file
    transport: httpx.BaseTransport | None = None
    folder: Path | None = None
    check: Check = no_check

    @contextmanager
    def fetch(self, url: str, name: str, home: Path, settings: Settings) -> Iterator[Path]:
        """Context manager that gives the local path of the file at `url`.

        A file that has to be downloaded is saved as `name` in the folder `home`. If it is there already, it is not
        downloaded again. `settings` limits its size, and how slow the download may be.

        Raises DownloadFailed if the download fails, FileTooLarge for a file above the limit, and InvalidRequest if
        `url` cannot be used.
        """
        own = self.open_own(url)
        if own is not None:
            with own as path:
                yield path
        else:
            yield self._download(url, name, home, settings)

    def _download(self, url: str, name: str, home: Path, settings: Settings) -> Path:
        if (home / name).exists():
            return home / name
        path = fetch_file(
            url,
            home,
            max_bytes=settings.max_source_bytes,
            allow_local=self.allow_local,
            pace=pace_of(settings),
            transport=self.transport,
            check=self.check,
        )
        return path.replace(home / name) if path.parent == home else path


@contextmanager
def prepare(
    endpoint: Endpoint[Any, Any],
    request: BaseModel,
    model: ModelChoice,
    settings: Settings,
    *,
    overrides: Overrides = NO_OVERRIDES,
    fetcher: Fetcher = Fetcher(),
    plan: Plan | None = None,
) -> Iterator[Job]:
    """Context manager that gives the job of a request: fetches its files, opens its source and makes its plan.

    The source is closed when the block ends.

    `endpoint`, `request`: the endpoint, and a request to it.
    `model`: the model. If it is not installed, the plan can be made, but not carried out.
    `settings`: the limits for the files, the prices and the default acceleration.
    `overrides`: values that replace options of the request.
    `fetcher`: fetches the source and the end image.
    `plan`: the plan of an earlier attempt, which is used unchanged, except that it gets the request's prompts: plans
        are stored without them. With None a new plan is made. A request without a seed then gets a random one, which
        the plan records.

    Raises LongtakeError, whose `loc` is the request's field at fault.
    """
    check_family(endpoint, model.card)
    limits = Limits(max_pixels=settings.max_source_pixels, max_duration_s=settings.max_source_duration_s)
    with ExitStack() as stack:
        home = fetcher.folder or stack.enter_context(temporary_folder(settings))
        with errors_at(endpoint.source_field, endpoint.source_url(request)):
            video = stack.enter_context(fetcher.fetch(endpoint.source_url(request), "source", home, settings))
            source = stack.enter_context(open_source(video, limits=limits, check=fetcher.check))
        options = overrides.apply(endpoint.options(request, source.facts))
        if plan is None:
            plan = planned(endpoint, request, options, model, source.facts, settings)
        else:
            plan = replace(plan, prompt=options.prompt, negative_prompt=options.negative_prompt)
            check_parts(endpoint, plan, model.card, settings)
        image, notes = None, tuple[str, ...]()
        if options.end_image is not None:
            with (
                errors_at((str(endpoint.end_image_field),), options.end_image, in_message=True),
                fetcher.fetch(options.end_image, "end_image", home, settings) as path,
            ):
                still = open_still(path, limits=limits, check=fetcher.check)
            image, notes = still.pixels, (TRANSPARENT_IMAGE_NOTE,) if still.transparent else ()
        adapters = with_whole_sources(plan.adapters, options.adapters)
        made_with = label(endpoint, request, {**overrides.fields(endpoint), "seed": plan.seed})
        yield Job(endpoint, model, source, plan, adapters, image, made_with, notes)


def with_whole_sources(
    planned: tuple[PlannedAdapter, ...], named: tuple[PlannedAdapter, ...]
) -> tuple[PlannedAdapter, ...]:
    """Returns the adapters of a plan with complete sources. A source says where an adapter's file is: URL, path or data
    URI.

    A plan does not store the data of a data URI, but only a shortened text. The data are taken from the request.

    planned: the adapters of the plan.
    named: the adapters of the request, whose sources are complete. An adapter of the plan gets the source of the
        adapter in `named` that comes from the same field of the request, and whose shortened source is the same.
        Without such an adapter it is unchanged.
    """
    sources = {(one.field, shortened_url(one.source)): one.source for one in named}
    return tuple(replace(one, source=sources.get((one.field, one.source), one.source)) for one in planned)


def without_prompts(document: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the JSON form of a plan as the queue stores it: its prompts are empty.

    The request has them already, and they can be many megabytes. `prepare` puts them back.
    """
    return dict(document) | {"prompt": "", "negative_prompt": ""}
