"""The routes that plan a request before it is submitted, and that import files (fetch them from other hosts and store
them).

A plan says how a request would be carried out, and its price. The source is probed by a program of its own (see
`service.derivations`), once for each stored file. This process only computes.
"""

import asyncio
from dataclasses import dataclass, field, replace
from math import ceil, floor
from typing import Any

from cachetools import TTLCache
from pydantic import BaseModel, TypeAdapter
from pydantic_core import from_json
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from longtake import prompts
from longtake.derived.order import PICTURE
from longtake.endpoints import ENDPOINTS, Endpoint
from longtake.endpoints.body_check import CheckedBody
from longtake.endpoints.validation import errors_at, parse
from longtake.errors import ExpansionFailed, LongtakeError
from longtake.models.choice import ModelChoice
from longtake.plan_text import plan_document, plan_sections
from longtake.planning import planned
from longtake.plans import Plan, shortened_url
from longtake.queue.addresses import file_path, file_url
from longtake.service.auth import caller_with_key
from longtake.service.bodies import PROCESS_BYTES, checked_body, read_json, received_body
from longtake.service.derivations import Wanted
from longtake.service.fair_semaphore import FairSemaphore
from longtake.service.imports import Imported, Imports
from longtake.service.lora_checks import LoraChecks
from longtake.service.origins import refuse_other_pages
from longtake.service.reports import MOST_OPEN
from longtake.service.responses import FRESH, ModelFailed, invalid, json_response
from longtake.service.state import ServerState
from longtake.settings import Settings
from longtake.storage.derived import Derivation
from longtake.version import __version__
from longtake.video import VideoInfo

MOST_BYTES = PROCESS_BYTES
"""Maximum size in bytes of the JSON body of a request that asks how a video would be made (its plan), or that lets the
server download a file (an import). A larger body contains a file as a data URI, which the client can upload instead."""
MOST_PROMPT = 10_000
"""Maximum number of characters of a prompt, or of a negative prompt, in the answer with a plan. The rest is cut."""
EXPANDED_S = 600.0
"""Seconds for which an expanded prompt is cached."""
EXPANDED_AT_ONCE = 2
"""Maximum number of prompts that are expanded for plans at the same time."""

_FACTS: TypeAdapter[VideoInfo] = TypeAdapter(VideoInfo)


def routes(state: ServerState) -> list[BaseRoute]:
    """Returns a route for each endpoint, which answers how a request to the endpoint would be carried out (its plan,
    such as sizes and price), and the route that downloads a file from a URL and stores it."""
    imports = Imports(state.store, state.settings, state.budgets, state.call, state.draining)
    loras = LoraChecks(state.store, state.settings, state.budgets, state.draining)
    planner = Planner(state, imports, loras, Expansions(state.settings))

    async def imported(request: Request) -> Response:
        refuse_other_pages(request)
        caller = await caller_with_key(request)
        body = await read_json(request, state, caller.key_id, MOST_BYTES)
        url = body.get("url") if isinstance(body, dict) else None
        if not isinstance(url, str):
            raise invalid("url", "Input should be a valid string", url)
        with errors_at(("url",), url):
            key, _ = await imports.stored(request, caller.key_id, url)
        base = request.scope["longtake.base_url"]
        return json_response({"url": file_url(base, key), "file": file_path(key)}, headers=FRESH)

    def plan(endpoint: Endpoint[Any, Any]) -> Route:
        async def planning(request: Request) -> Response:
            refuse_other_pages(request)
            key_id = (await caller_with_key(request)).key_id
            with state.reports.opened(key_id, MOST_OPEN):
                async with received_body(request, state, key_id, MOST_BYTES) as body:
                    checked = await checked_body(state, endpoint.id, body)
                if checked.problems:
                    raise ModelFailed(checked.problems)
                return json_response(await planner.plan(request, endpoint, key_id, checked), headers=FRESH)

        return Route(f"/models/{endpoint.id}/plan", planning, methods=["POST"])

    return [*(plan(endpoint) for endpoint in ENDPOINTS.values()), Route("/media/import", imported, methods=["POST"])]


@dataclass(frozen=True)
class Planner:
    """Plans requests: computes how a request would be carried out, and its price, before a client submits it.

    state: the objects that all routes share.
    imports: fetches the source videos and the end images of the requests.
    loras: checks that the LoRAs of the requests are there.
    expansions: expands the prompts of the requests.
    """

    state: ServerState
    imports: Imports
    loras: LoraChecks
    expansions: "Expansions"

    async def plan(
        self, request: Request, endpoint: Endpoint[Any, Any], key_id: str, checked: CheckedBody
    ) -> dict[str, Any]:
        """Returns the plan of a valid request (how it would be carried out, and its price) as the JSON object that the
        client gets.

        The source and the end image are fetched at the same time. The hosts of LoRAs are only asked whether they have
        them.

        request, endpoint: the client's HTTP request, and the endpoint to which the planned request would be sent.
        key_id: the id of the client's API key.
        checked: the request to plan.

        Raises LongtakeError, whose `loc` is the field at fault, ModelFailed if both files cannot be used, RequestFailed
        with status 429 if the key has reached a limit, NotFound if the stored source video is deleted meanwhile, and
        ClientDisconnect if the client has gone.
        """
        state = self.state
        wanted = await state.call_for(key_id, lambda: parse(endpoint.Request, from_json(checked.compact)))
        url = endpoint.source_url(wanted)
        source, end_image = await asyncio.gather(
            self._open_source(request, endpoint, key_id, url),
            self._open_end_image(request, endpoint, key_id, wanted),
            return_exceptions=True,
        )
        _raise_all(source, end_image)
        assert not isinstance(source, BaseException)
        file, facts = source

        def make() -> tuple[Plan, ModelChoice]:
            model = endpoint.model_choice(state.settings)
            return planned(endpoint, wanted, endpoint.options(wanted, facts), model, facts, state.settings), model

        async with state.report_threads.permit(key_id):
            plan, model = await state.call_long(make)
        await self.loras.check(request, key_id, plan.adapters)
        expanded, failure = await self.expansions.expanded(request, key_id, plan)
        notes = [*plan.notes, *([failure] if failure else [])]
        has_writer = self.expansions.is_configured or (model.installed and model.card.writes_prompts)
        prompt = {"prompt": {"expands": plan.expand_prompt and has_writer, "expanded": expanded}}
        return document(plan, model, facts, url, file, notes) | prompt

    async def _open_source(
        self, request: Request, endpoint: Endpoint[Any, Any], key_id: str, url: str
    ) -> tuple[Imported, VideoInfo]:
        """Fetches and probes the source of a request, whose URL is `url`. Returns the stored file and its facts.

        request: the client's HTTP request.
        endpoint: the endpoint to which the planned request would be sent.
        key_id: the id of the client's API key.

        Raises LongtakeError, whose `loc` is the field with the source's URL, if the source cannot be used. Raises
        RequestFailed, NotFound and ClientDisconnect in the same cases as `plan`.
        """
        with errors_at(endpoint.source_field, url):
            file = await self.imports.stored(request, key_id, url)
            what = Derivation(file[0], "source", __version__)
            made = await self.state.derivations.made(request, Wanted(what, file[1], key_id))
        return file, _FACTS.validate_python(made.facts)

    async def _open_end_image(
        self, request: Request, endpoint: Endpoint[Any, Any], key_id: str, wanted: BaseModel
    ) -> None:
        """Fetches and decodes the end image of a request, if it has one, so that a bad one is known before a run.

        request: the client's HTTP request.
        key_id: the id of the client's API key.
        wanted: the request to plan, as an object of the endpoint's class of requests.

        Raises LongtakeError, whose `loc` is the field of the end image, if the image cannot be fetched or decoded.
        """
        url = endpoint.end_image_url(wanted)
        if url is None:
            return
        with errors_at((str(endpoint.end_image_field),), url):
            key, file = await self.imports.stored(request, key_id, url)
            await self.state.derivations.made(request, Wanted(Derivation(key, PICTURE), file, key_id))


def _raise_all(*results: object) -> None:
    """Raises the errors among `results`: one ModelFailed if several files of a request cannot be used, otherwise the
    first error. Does nothing without errors."""
    errors = [result for result in results if isinstance(result, BaseException)]
    problems = [error.detail() for error in errors if isinstance(error, LongtakeError) and error.status == 422]
    if len(problems) > 1:
        raise ModelFailed(problems)
    if errors:
        raise errors[0]


def document(
    plan: Plan, model: ModelChoice, facts: VideoInfo, url: str, file: Imported, notes: list[str]
) -> dict[str, Any]:
    """Returns a plan and its source as the JSON object that clients get.

    model: the model that would carry out the plan, and the published model that it replaces because that is not
        installed, if any.
    facts: the facts about the source video.
    url: the URL of the source in the request.
    file: the stored file with the source's bytes.
    notes: sentences for people about the plan.
    """
    shown = replace(plan, prompt=shortened_prompt(plan.prompt), negative_prompt=shortened_prompt(plan.negative_prompt))
    return {
        "plan": plan_document(shown),
        "sections": [{"title": title, "rows": rows} for title, rows in plan_sections(shown, facts, shortened_url(url))],
        "price_usd": float(plan.price_usd),
        "billed_units": float(plan.billed_units),
        "unit": plan.unit,
        "model": plan.model,
        "stand_in": model.note if model.stands_in_for else None,
        "notes": notes,
        "source": {
            "file": file_path(file[0]),
            "container": facts.container,
            "codec": facts.codec,
            "width": facts.width,
            "height": facts.height,
            "fps": float(facts.rate),
            "duration": facts.duration_s,
            "num_frames": facts.num_frames,
            "has_audio": facts.sound is not None,
        },
        "context": context_document(plan, model, facts),
    }


def shortened_prompt(text: str) -> str:
    """Returns a prompt as the answer with a plan has it: after 10,000 characters (MOST_PROMPT) it ends with `...`.

    A client has the whole prompt. Answers with prompts of megabytes, read slowly, would use much memory.
    """
    return text if len(text) <= MOST_PROMPT else f"{text[:MOST_PROMPT]}..."


def context_document(plan: Plan, model: ModelChoice, facts: VideoInfo) -> dict[str, Any]:
    """Returns which frames a plan uses and makes, as a JSON object with these members:

    first, stop: which frames of the source the model sees, as `joined_frames` returns them.
    shown_first, shown_stop: which frames of the source the result shows, in the same form.
    at_start: True if the new frames join the source's first frame, False if they join its last one.
    counted: number of source frames that the request's number of frames includes. The model may see fewer.
    most_seen: the largest number of source frames that the model can see.
    rate: frames per second at which the source is read; `counted` and `most_seen` count frames at this rate.
    new_first, new_frames, num_frames: see `Plan`.
    """
    first, stop = joined_frames(plan, facts, plan.context_frames)
    shown_first, shown_stop = joined_frames(plan, facts, plan.shown_frames)
    return {
        "first": first,
        "stop": stop,
        "shown_first": shown_first,
        "shown_stop": shown_stop,
        "at_start": plan.source_last or plan.context.reverse,
        "counted": max(plan.billed_frames - plan.new_frames, plan.context_frames if plan.shown_frames else 0),
        "most_seen": model.card.max_context_frames,
        "rate": float(plan.context.rate),
        "new_first": plan.new_first,
        "new_frames": plan.new_frames,
        "num_frames": plan.num_frames,
    }


def joined_frames(plan: Plan, facts: VideoInfo, count: int) -> tuple[int, int]:
    """Returns the `count` frames of the source that are nearest to the new frames: the number of the first one, and of
    the one after the last.

    `count` is at the rate at which the source is read. The returned numbers are at the source's own rate, from 0: those
    of all frames that are shown while the `count` frames last. Both are equal if there is no such frame.
    """
    count = min(count, len(plan.context))
    span = plan.context.head(count) if plan.source_last else plan.context.tail(count)
    if not count:
        return span.start, span.start

    first, stop = ((frame / span.rate + span.shift) * facts.rate for frame in (span.start, span.stop))
    return max(floor(first), 0), min(ceil(stop), facts.num_frames)


@dataclass
class Expansions:
    """Expands prompts with the language model of the operator. Its method may be called only in the event loop.

    At most two prompts (EXPANDED_AT_ONCE) are expanded at the same time. The API keys take turns.

    settings: name the server of the language model, if there is one.
    """

    settings: Settings
    _known: TTLCache[tuple[str, str], str] = field(default_factory=lambda: TTLCache(1000, EXPANDED_S))
    _semaphore: FairSemaphore = field(default_factory=lambda: FairSemaphore(EXPANDED_AT_ONCE))

    @property
    def is_configured(self) -> bool:
        return self.settings.expansion_url is not None

    async def expanded(self, request: Request, key_id: str, plan: Plan) -> tuple[str | None, str | None]:
        """Returns (the expanded prompt, a sentence about a failure). Each is None if there is none.

        No prompt is expanded if the plan does not ask for it, the prompt is empty, or there is no language model. An
        expanded prompt is remembered for ten minutes (EXPANDED_S).

        request: the client's HTTP request.
        key_id: the id of the client's API key.

        Raises ClientDisconnect if the client has gone before its turn.
        """
        if not (self.is_configured and plan.expand_prompt and plan.prompt.strip()):
            return None, None
        known = self._known.get((key_id, plan.prompt))
        if known is not None:
            return known, None
        async with self._semaphore.permit(key_id):
            if await request.is_disconnected():
                raise ClientDisconnect
            try:
                text, note = await asyncio.to_thread(prompts.expand, plan.prompt, self.settings)
            except ExpansionFailed as error:
                return None, error.message
        if note is not None:
            return None, note
        self._known[key_id, plan.prompt] = text
        return text, None
