"""Errors as entries of fal's `detail` list."""

import errno
import os

import pytest

from longtake.errors import (
    Cancelled,
    ContentPolicyViolation,
    InvalidRequest,
    LongtakeError,
    is_out_of_memory,
    machine_error,
    os_reason,
)


def test_an_error_is_an_entry_of_the_detail_list() -> None:
    error = InvalidRequest("x is 3; it must be 4.", loc=("body", "x"), value=3, ctx={"eq": 4})
    assert str(error) == "x is 3; it must be 4."
    assert error.detail() == {
        "loc": ["body", "x"],
        "msg": "x is 3; it must be 4.",
        "type": "value_error",
        "url": "https://docs.fal.ai/errors#value_error",
        "input": 3,
        "ctx": {"eq": 4},
    }


def test_an_error_without_a_field_is_about_the_body() -> None:
    entry = LongtakeError("It failed.").detail()
    assert entry["loc"] == ["body"]
    assert "ctx" not in entry


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EEXIST, "there is already a file or folder of that name"),
        (errno.ENOTDIR, "a part of this path is a file, where a folder is needed"),
        (errno.EISDIR, "it is a folder, where a file is needed"),
        (errno.EACCES, "Permission denied"),
    ],
)
def test_the_reason_of_an_error_of_the_operating_system(code: int, words: str) -> None:
    assert os_reason(OSError(code, os.strerror(code), "/secret")) == words


def test_an_error_of_the_operating_system_without_words() -> None:
    assert os_reason(FileNotFoundError()) == "FileNotFoundError"


def subclasses(kind: type[LongtakeError]) -> list[type[LongtakeError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in subclasses(child))]


@pytest.mark.parametrize("kind", subclasses(LongtakeError))
def test_every_error_has_a_type_a_status_and_an_exit_code(kind: type[LongtakeError]) -> None:
    assert kind.type.replace("_", "").islower()
    assert 400 <= kind.status < 600
    assert kind.exit_code > 0
    assert (kind.status == 422) == issubclass(kind, InvalidRequest)


def test_errors_with_a_fixed_sentence() -> None:
    assert ContentPolicyViolation().loc == ("body", "prompt")
    assert (Cancelled().exit_code, Cancelled().message) == (130, "The request was cancelled.")


def test_the_error_of_this_machine_is_found_behind_others() -> None:
    ours, theirs = OSError(errno.EMFILE, "Too many open files"), OSError(errno.ECONNREFUSED, "Connection refused")
    assert machine_error(ours) is ours
    assert machine_error(theirs) is None
    outer, inner = ValueError("it failed"), RuntimeError("it failed")
    outer.__context__, inner.__cause__ = inner, ours
    assert machine_error(outer) is ours
    inner.__cause__ = outer
    assert machine_error(outer) is None, "also if the errors lead back to the first"


def test_memory_that_ran_out_is_known_by_type_or_words() -> None:
    class OutOfMemoryError(RuntimeError):
        """As torch's."""

    cublas = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    host = RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to")
    assert all(map(is_out_of_memory, (MemoryError(), OutOfMemoryError(), cublas, host)))
    assert not any(map(is_out_of_memory, (RuntimeError("CUDA error: misaligned address"), ValueError("out of memory"))))
