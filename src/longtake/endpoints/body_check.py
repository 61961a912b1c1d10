"""Checks the JSON body of a submission, as a function or as a program in a process of its own.

    python -m longtake.endpoints.body_check ENDPOINT < body

The program writes one line of JSON with the problems and URLs to standard output, and then the body as compact JSON. A
large body is checked by the program, because the JSON parser stops all threads of its process while it works.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from pydantic_core import from_json, to_json

from longtake.endpoints import ENDPOINTS, Endpoint
from longtake.endpoints.validation import problem, problems, value_at
from longtake.errors import Loc
from longtake.media.data_uri import address_error, is_address
from longtake.models.lora_names import Lora, hub_url, is_hub_url, may_be_repository

MOST_URL = 10_000
"""The largest number of characters of a URL that `CheckedBody.urls` contains. Longer ones are data URIs, or refused."""

MOST_PROMPT = 2000
"""The largest number of characters of `CheckedBody.prompt`, by which past requests are found."""


@dataclass(frozen=True)
class CheckedBody:
    """The body of a submission.

    compact: the body as compact JSON in UTF-8; `null` if it is not valid JSON.
    problems: entries of fal's `detail` list, one for each problem.
    urls: (path of the field, URL) for each field that names a file: the source video, the end image and the LoRAs. The
        name of a hub repository is replaced by the address of the LoRA in it (see `models.lora_names`). URLs of more
        than 10,000 characters (MOST_URL) are left out. The list is empty if there are problems.
    prompt: the first 2000 characters (MOST_PROMPT) of the input's prompt, or an empty text if there is none.
    """

    compact: bytes
    problems: list[dict[str, Any]]
    urls: list[tuple[Loc, str]]
    prompt: str = ""


def parse(raw: bytes) -> Any:
    """Returns the JSON value in `raw`, or {} if it is empty.

    Raises ValueError or RecursionError if it is not valid JSON, or contains a number that is not finite.
    """
    return from_json(raw, allow_inf_nan=False) if raw.strip() else {}


def json_problem(error: Exception) -> dict[str, Any]:
    """Returns the entry of fal's `detail` list for an error that `parse` has raised."""
    return problem(loc=(), msg="JSON decode error", type="json_invalid", input={}, ctx={"error": str(error)})


def check(endpoint_id: str, raw: bytes) -> CheckedBody:
    """Returns the body of a submission as compact JSON, with the problems of the input and the URLs of its files.

    If the body is not valid JSON, the result is the JSON value `null` with one problem and no URLs. If the input has
    any problem, the result has no URLs.

    endpoint_id: the id of an endpoint.
    raw: the body as the client sent it.
    """
    try:
        value = parse(raw)
        compact = to_json(value, inf_nan_mode="constants")  # `json.dumps` would stop all threads for longer
        if b"Infinity" in compact:  # perhaps of 1e999, which the parser takes for infinity
            from_json(compact, allow_inf_nan=False)
    except (ValueError, RecursionError) as error:
        return CheckedBody(b"null", [json_problem(error)], [])
    endpoint = ENDPOINTS[endpoint_id]
    found = problems(endpoint.Request, value) or _source_problems(endpoint, value)
    prompt = _text_at(value, ("prompt",))[:MOST_PROMPT]
    return CheckedBody(compact, found, [] if found else named_files(endpoint, value), prompt)


def _source_problems(endpoint: Endpoint[Any, Any], value: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns one entry of fal's `detail` list if the source of a valid input is no URL; otherwise an empty list.

    Such a request is refused at once, because it would otherwise wait for a device and then fail.

    value: an input of the endpoint that its request class accepts, as JSON values.
    """
    text = _text_at(value, endpoint.source_field)
    if text == "" or is_address(text):
        return []
    error = address_error(text)
    return [problem(loc=endpoint.source_field, msg=error.message, type=error.type, input=error.value)]


def named_files(endpoint: Endpoint[Any, Any], value: Mapping[str, Any]) -> list[tuple[Loc, str]]:
    """Returns (path of the field, its text) for each field of an input that names a file.

    These fields are the source video, the end image and the LoRAs. Empty texts, and those of more than 10,000
    characters (MOST_URL), are left out.

    value: a valid input of the endpoint, as JSON values.
    """
    fields: list[Loc] = [endpoint.source_field]
    if endpoint.end_image_field is not None:
        fields.append((endpoint.end_image_field,))
    texts = [(field, _text_at(value, field)) for field in fields]
    loras = (value.get("loras") or ()) if "loras" in endpoint.Request.model_fields else ()
    texts += [(("loras", index, "path"), lora["path"]) for index, lora in enumerate(loras)]
    # Only this function makes addresses of the hub; in an input they mean nothing.
    named = [(field, text) for field, text in texts if not is_hub_url(text.strip())]
    on_hub: dict[Loc, str] = {
        ("loras", index, "path"): hub_url(Lora(lora["path"], lora.get("weight_name")))
        for index, lora in enumerate(loras)
        if may_be_repository(lora["path"])
    }
    return [(field, on_hub.get(field, text)) for field, text in named if 0 < len(text) <= MOST_URL]


def _text_at(value: Any, path: Loc) -> str:
    """Returns the text at a path of field names in a JSON value, or an empty one if there is none."""
    found = value_at(value, path)
    return found if isinstance(found, str) else ""


def write(checked: CheckedBody, file: IO[bytes]) -> None:
    """Writes a checked body to a file, from which `read` returns it."""
    file.write(json.dumps([checked.problems, checked.urls, checked.prompt]).encode() + b"\n")
    file.write(checked.compact)


def read(file: IO[bytes]) -> CheckedBody:
    """Returns the checked body that `write` has written to a file."""
    found, urls, prompt = json.loads(file.readline())
    # The file's own `read` would join what it has in its buffer with the rest, and stop all threads meanwhile.
    with open(os.dup(file.fileno()), "rb", buffering=0) as unbuffered:
        unbuffered.seek(file.tell())
        compact = unbuffered.readall()
    return CheckedBody(compact, found, [(tuple(path), text) for path, text in urls], prompt)


if __name__ == "__main__":
    write(check(sys.argv[1], sys.stdin.buffer.read()), sys.stdout.buffer)
