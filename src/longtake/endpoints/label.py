"""The label of a result: the endpoint and the input that made it, as the comment in its file.

With it, a result can be made again, and the server's pages can fill their form from it. It has nothing that must not be
passed on with the file: no source, no data, no path of a machine, and no address that could be a secret.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel

from longtake.endpoints import Endpoint
from longtake.endpoints.validation import value_at
from longtake.media.tags import MOST_COMMENT_BYTES
from longtake.models.lora_names import may_be_repository
from longtake.outbound import is_http
from longtake.version import __version__


def label(endpoint: Endpoint[Any, Any], request: BaseModel, replaced: Mapping[str, Any]) -> str:
    """Returns the label of a request's result: a JSON object {longtake, endpoint, input}.

    longtake: the version of this program.
    endpoint: the endpoint's id.
    input: the fields of the request that are not null, also those with default values. The source is left out.
        Addresses of other files have no parts that could be secrets; those of uploads, results and data URIs are left
        out.

    replaced: field -> the value that takes the place of the request's; None leaves the field out. Names that are no
        fields of the request are ignored.

    Returns an empty text if the label would have more than 60,000 bytes (MOST_COMMENT_BYTES).
    """
    input = request.model_dump(mode="json")
    value_at(input, endpoint.source_field[:-1]).pop(endpoint.source_field[-1], None)
    input |= {name: value for name, value in replaced.items() if name in type(request).model_fields}
    if endpoint.end_image_field is not None and input[endpoint.end_image_field] is not None:
        input[endpoint.end_image_field] = public_address(input[endpoint.end_image_field]) or None
    for lora in input.get("loras") or ():
        lora["path"] = _public_lora(lora["path"])
    made = {"longtake": __version__, "endpoint": endpoint.id, "input": _without_nulls(input)}
    text = json.dumps(made, ensure_ascii=False, separators=(",", ":"))
    content = text.encode("utf-8", "replace")
    return content.decode() if len(content) <= MOST_COMMENT_BYTES else ""


def public_address(url: str) -> str:
    """Returns the address of a file without the parts that could be secrets, or an empty text.

    - Of an http(s) URL, the user's name and password, the query and the fragment are left out.
    - The result is empty for a URL with a part `/files/` in its path, because whoever knows the URL of an uploaded file
      or of a result may read the file. It is also empty for everything else, such as data URIs and paths of a machine.
    """
    if not is_http(url.strip()):
        return ""
    try:
        address = urlsplit(url.strip())
    except ValueError:
        return ""
    if "/files/" in address.path:
        return ""
    return urlunsplit((address.scheme, address.netloc.rpartition("@")[2], address.path, "", ""))


def _public_lora(path: str) -> str:
    """Returns `path` if it is the name of a LoRA. If it is a URL, returns the URL without its secrets (see
    `public_address`).

    The result is empty if `path` is a data URI, or the path of a file on some machine.
    """
    is_name = may_be_repository(path) or not any(mark in path for mark in "/\\:")
    return path if is_name else public_address(path)


def _without_nulls(value: Any) -> Any:
    match value:
        case dict():
            return {name: _without_nulls(part) for name, part in value.items() if part is not None}
        case list():
            return [_without_nulls(part) for part in value]
    return value
