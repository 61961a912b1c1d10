"""The results of the checks of `longtake doctor`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from longtake.errors import LongtakeError

State = Literal["ok", "no", "note"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    name: what was checked.
    state: `ok`, `no` (it does not work, and neither does anything that needs it) or `note` (information only).
    text: the details for the user.
    vital: True if even the small models that are part of the package cannot run without what was checked.
    """

    name: str
    state: State
    text: str
    vital: bool = False


def checked(name: str, check: Callable[[], Sequence[Finding]], *, vital: bool = False) -> Sequence[Finding]:
    """Returns the findings of `check()`. If it raises an error, returns one finding that reports the error instead.

    So an error in one check does not prevent the other checks. The finding about an error has the state `no`. `name`
    and `vital` are its other fields (see `Finding`).
    """
    try:
        return check()
    except Exception as error:
        text = error.message if isinstance(error, LongtakeError) else f"{type(error).__name__}: {error}"
        return [Finding(name, "no", text, vital)]
