"""A check of `longtake doctor` that fails ends no other check."""

from collections.abc import Sequence

from longtake.cli.findings import Finding, checked
from longtake.errors import NotSupported


def test_an_error_in_a_check_is_its_finding() -> None:
    def refused() -> Sequence[Finding]:
        raise NotSupported("There is no such device.")

    def broken() -> Sequence[Finding]:
        raise OSError("no file")

    assert checked("device", refused, vital=True) == [Finding("device", "no", "There is no such device.", True)]
    assert checked("files", broken) == [Finding("files", "no", "OSError: no file")]
    assert checked("fine", lambda: [Finding("a", "ok", "b")]) == [Finding("a", "ok", "b")]
