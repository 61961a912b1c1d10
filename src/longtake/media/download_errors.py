"""Says in words why a download failed, for error messages."""

import errno
import re
import socket
import ssl
from collections.abc import Mapping


def reason(error: Exception) -> str:
    """Returns a phrase that says why `error` was raised, for an error message. It does not name any local file."""
    if isinstance(error, UnicodeError):
        return "it redirects to an address whose host is no name"
    match _system_error(error):
        case ssl.SSLCertVerificationError():
            return "the host's certificate cannot be verified"
        case ssl.SSLError():
            return "the host does not speak https there"
        case OSError(errno=int(code)) if code in _NETWORK_REASONS:
            return _NETWORK_REASONS[code]
    text = getattr(error, "strerror", None) or str(error).rstrip(".") or "no answer"
    return re.sub(r"^\[Errno -?\d+\] ", "", text)


_NETWORK_REASONS: Mapping[int, str] = {
    errno.ECONNREFUSED: "nothing answers at this host and port",
    errno.ECONNRESET: "the host ended the connection",
    errno.EHOSTUNREACH: "the host cannot be reached from here",
    errno.ENETUNREACH: "the host cannot be reached from here",
    socket.EAI_NONAME: "there is no host of this name",
    socket.EAI_AGAIN: "the host's name cannot be looked up now",
}
"""Code of an error of the network -> what it means for the user."""


def _system_error(error: BaseException | None) -> OSError | None:
    """Returns the operating system's error that led to `error`, which may be `error` itself. None if there is none."""
    for _ in range(10):  # an error that is raised again can be among its own causes
        if error is None or isinstance(error, OSError):
            return error
        error = error.__cause__ or error.__context__
    return None
