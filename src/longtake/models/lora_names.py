"""How a request names a LoRA, and the address under which a server downloads a LoRA from the hub (Hugging Face)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

from longtake.errors import InvalidRequest

MOST_NAME = 500
"""The largest number of characters of a file name in the address of a LoRA on the Hugging Face hub. No name on the hub
is longer."""

MOST_PATH = 4096
"""The largest number of characters of a LoRA's path that is no URL, and of its `weight_name`. No path on Linux is
longer."""

SUFFIX = ".safetensors"
"""The end of the name of a LoRA file in a repository or folder."""

_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_SCHEME = "hf://"


@dataclass(frozen=True)
class Lora:
    """A LoRA as a request names it.

    path: a URL, a data URI, a hub repository (`owner/name`), or a file or folder in the LoRA folder.
    weight_name: the name of the file in the repository or folder; None means its only .safetensors file. With None, a
        folder or repository that has several is refused.
    """

    path: str
    weight_name: str | None = None


def scheme_of(path: str) -> str:
    """Returns the scheme of a LoRA's path in lower case: "https", "http" or "data". Returns "" for any other path."""
    scheme, colon, _ = path.strip().partition(":")
    return scheme.lower() if colon and scheme.lower() in ("https", "http", "data") else ""


def may_be_repository(path: str) -> bool:
    """Returns True if a LoRA's path has the form of a repository's name on the Hugging Face hub, `owner/name`. Such a
    path can also name a local folder."""
    # The hub allows no "--" in names, which stands for the slash in the names of folders here.
    is_name = _REPO.fullmatch(path) is not None and ".." not in path and "--" not in path
    return is_name and not path.lower().endswith(SUFFIX)


def hub_url(lora: Lora) -> str:
    """Returns the address of a LoRA on the Hugging Face hub: `hf://owner/name`, or `hf://owner/name/weight_name`.

    lora: a LoRA whose path may be the name of a repository (see `may_be_repository`). Its `weight_name` is cut to 500
        characters (MOST_NAME), and then percent-encoded.
    """
    if lora.weight_name is None:
        return f"{_SCHEME}{lora.path}"
    name = quote(lora.weight_name[:MOST_NAME], safe="", errors="surrogatepass")
    return f"{_SCHEME}{lora.path}/{name}"


def is_hub_url(url: str) -> bool:
    """Returns True if a URL is the address of a LoRA on the Hugging Face hub, such as
    `hf://owner/name/file.safetensors`."""
    return url.startswith(_SCHEME)


def lora_at(url: str) -> Lora:
    """Returns the LoRA at a URL. If `hub_url` has returned this URL, `path` and `weight_name` are read from it.

    For any other URL, `path` is the URL itself and `weight_name` is None.
    """
    if not is_hub_url(url):
        return Lora(url)
    owner, name, *weight_name = url.removeprefix(_SCHEME).split("/")
    return Lora(f"{owner}/{name}", unquote(weight_name[0], errors="surrogatepass") if weight_name else None)


def choose_file(lora: Lora, names: Sequence[str], kind: str) -> str:
    """Returns the name of a LoRA's file: `lora.weight_name`, or if that is None, the only name in `names`.

    names: the names of the files to choose from, in the folder or repository that `lora.path` names.
    kind: "folder" or "hub repository", for messages.

    Raises `InvalidRequest` if `weight_name` is not in `names`, or if it is None and `names` does not have exactly one
    entry.
    """
    listed = ", ".join(names[:20]) or "no .safetensors file"
    if lora.weight_name is not None:
        if lora.weight_name not in names:
            raise InvalidRequest(
                f"The {kind} {lora.path} has no {lora.weight_name[:100]!r}; it has {listed}.", value=lora.weight_name
            )
        return lora.weight_name
    if len(names) != 1:
        reason = f"has several files ({listed}): name one as weight_name" if names else f"has {listed}"
        raise InvalidRequest(f"The {kind} {lora.path} {reason}.", value=lora.path, ctx={"files": list(names[:100])})
    return names[0]
