"""Asks the hub (Hugging Face) about a repository: sends the access token, reads refusals, lists files. Needs no torch.

The hub's own library is not used, because it reads answers of any size.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import httpx

from longtake.errors import DownloadFailed
from longtake.media.download import ANSWER_S, environment_proxy
from longtake.media.fetch import fetch_file, pace_of
from longtake.models.lora_names import MOST_NAME
from longtake.outbound import PublicTransport, http_url
from longtake.settings import Settings
from longtake.temporary import temporary_folder
from longtake.video import Check, no_check

LISTING_S = ANSWER_S
"""Seconds within which the Hugging Face hub's list of a repository's files must have arrived."""

GATED = "its licence must be accepted on the hub first, and LONGTAKE_HF_TOKEN set"
"""The end of an error message: why the Hugging Face hub refuses access to a repository whose licence has to be
accepted."""

NO_REPOSITORY = "the hub has no such repository, or it is private and LONGTAKE_HF_TOKEN is not set"
"""The end of an error message: why the Hugging Face hub shows no repository of the requested name."""

_MOST_PART = 255
"""The largest number of bytes of one component of a file's path, which is the limit of common file systems."""


class NoSuchFile(Exception):
    """Raised if the Hugging Face hub has no file of the requested name, or no such repository."""


@dataclass(frozen=True)
class HubAccess:
    """How one repository of the hub is asked for its files.

    repo: the repository, as `owner/name`.
    settings: name the hub, and the slowest download that is allowed.
    token: an access token, which is sent to the hub's own host and to no other; None sends none.
    transport: sends the HTTP requests; see `fetch_file`.
    check: called again and again. It may raise an exception to end the work.
    """

    repo: str
    settings: Settings
    token: str | None
    transport: httpx.BaseTransport | None
    check: Check = no_check

    def check_online(self) -> None:
        """Raises `DownloadFailed` if the settings or the hub's own variable forbid to ask the hub."""
        from huggingface_hub import constants

        if self.settings.offline or constants.HF_HUB_OFFLINE:
            variable = "LONGTAKE_OFFLINE" if self.settings.offline else "HF_HUB_OFFLINE"
            raise DownloadFailed(f"The hub cannot be asked for {self.repo}: {variable} is set.")

    def listed(self, max_bytes: int, *, with_sizes: bool = False) -> Sequence[Mapping[str, Any]]:
        """Returns the entries of the Hugging Face hub's list of the repository's files. Only their `rfilename` is
        checked.

        Entries whose name is no plain path (see `is_plain`) are left out.

        max_bytes: the largest size of the list that is read.
        with_sizes: True if the entries must also state the files' sizes and SHA-256 sums.

        Raises `FileTooLarge` above `max_bytes`, and `DownloadFailed` if the list cannot be read.
        """
        pace = pace_of(self.settings)
        pace = replace(pace, total_s=min(pace.total_s, LISTING_S))
        address = f"{hub_endpoint(self.settings)}/api/models/{quote(self.repo)}{'?blobs=true' if with_sizes else ''}"
        with temporary_folder(self.settings) as folder:
            try:
                path = fetch_file(
                    address,
                    folder,
                    max_bytes=max_bytes,
                    pace=pace,
                    transport=self.transport,
                    check=self.check,
                    hooks={"request": [self.authorise], "response": [self.check_answer]},
                )
            except NoSuchFile:
                raise self.failed(NO_REPOSITORY) from None
            content = path.read_bytes()
        try:
            entries = [dict(entry) for entry in json.loads(content).get("siblings", ())]
            names = [entry["rfilename"] for entry in entries]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise self.failed("the hub's list of its files cannot be read") from None
        return [entry for entry, name in zip(entries, names, strict=True) if isinstance(name, str) and is_plain(name)]

    def is_hub(self, url: httpx.URL) -> bool:
        """Returns True if a URL is one of the hub's own host, so that it may get the access token."""
        hub = httpx.URL(hub_endpoint(self.settings))
        return (url.scheme, url.host, url.port) == (hub.scheme, hub.host, hub.port)

    def authorise(self, request: httpx.Request) -> None:
        """Adds the access token to a request, unless it goes to another host than the Hugging Face hub."""
        if self.token is not None and self.is_hub(request.url):
            request.headers["Authorization"] = f"Bearer {self.token}"

    def check_answer(self, answer: httpx.Response) -> None:
        """Raises an error if `answer` is the Hugging Face hub's refusal of a request (status 401, 403 or 404).

        The error is `NoSuchFile` if only the file is missing, otherwise `DownloadFailed`, which says why.
        """
        code, status = answer.headers.get("x-error-code"), answer.status_code
        if status not in (401, 403, 404) or not self.is_hub(answer.url):
            return
        if code == "GatedRepo":
            raise self.failed(GATED)
        if code == "RepoNotFound" or (status == 401 and self.token is None):
            raise self.failed(NO_REPOSITORY)
        if status == 404:
            raise NoSuchFile
        raise self.failed(
            f"the hub refuses access (status {status})"
            + ("" if self.token is None else "; is LONGTAKE_HF_TOKEN right?")
        )

    def failed(self, reason: str) -> DownloadFailed:
        """Returns the error whose sentence ends with `reason`: why the repository or a file of it cannot be had."""
        return DownloadFailed(f"{self.repo} cannot be fetched: {reason}.", value=self.repo)


def hub_transport(settings: Settings) -> httpx.BaseTransport | None:
    """Returns the transport with which requests are sent to the Hugging Face hub.

    The transport allows public hosts, trusted ones and the hub itself. If the environment names a proxy for the hub,
    the result is None, which allows every host, because the proxy then decides which hosts are allowed.
    """
    url = hub_endpoint(settings)
    try:
        hub, proxy = http_url(url).raw_host.decode("ascii"), environment_proxy(url)
    except ValueError:
        return PublicTransport(settings.trusted_hosts)  # a download will say what is wrong with the hub's URL
    return None if proxy is not None else PublicTransport((*settings.trusted_hosts, hub))


def hub_endpoint(settings: Settings) -> str:
    """Returns the URL of the Hugging Face hub, without a slash at its end."""
    from huggingface_hub import constants

    return (settings.hf_endpoint or constants.ENDPOINT).rstrip("/")


def is_plain(name: str) -> bool:
    """Returns True if the name of a file in a repository is safe as a path inside a folder.

    Returns False for a name that is too long, is absolute, leads out of the folder, or has a backslash or an
    unprintable character.
    """
    try:
        parts = [part.encode() for part in name.split("/")]
    except UnicodeError:  # half a character
        return False
    is_short = len(name) <= MOST_NAME and all(0 < len(part) <= _MOST_PART for part in parts)
    return is_short and name.isprintable() and "\\" not in name and not {b".", b".."} & {*parts}
