"""Makes the outcomes of requests: from a worker process's reports, or for failures that no worker process reports."""

from longtake.errors import LongtakeError
from longtake.queue.requests import Outcome
from longtake.worker.messages import Done, Failed

TOO_LARGE_INSIDE = (
    "The video has {size} bytes, which is too much for a data URI inside the response (at most {limit}): the response "
    "has the URL of the video instead."
)

NOT_RETRIED = {"x-fal-retryable": "false", "x-fal-needs-retry": "false"}
"""Headers that tell clients that the same request would fail again."""


def service_error(status_code: int, sentence: str, error_type: str, **headers: str) -> Outcome:
    """Returns the outcome of a request that failed because of the server, and not because of the model or the input.

    `sentence`: the error as text for the user.
    `error_type`: one of fal's error types.
    `headers`: additional headers of the response.

    The outcome's body is {"detail": `sentence`, "error_type": `error_type`}.
    """
    body = {"detail": sentence, "error_type": error_type}
    return Outcome(status_code, body, error=sentence, error_type=error_type, headers=headers)


NOT_STARTED_IN_TIME = service_error(
    504,
    "The request was not started within the time that it allowed.",
    "request_timeout",
    **{"x-fal-request-timeout-type": "user"},
)
"""The outcome of a request that waited in the queue for longer than its client allows."""

NOT_STORED = service_error(500, "The result could not be stored.", "internal_error")
"""The outcome that is stored when the real one cannot be stored, for example because it is not valid JSON."""


def worker_died(attempts: int, reason: str = "") -> Outcome:
    """Returns the outcome of a request whose worker process died in its last attempt.

    `attempts`: the number of attempts.
    `reason`: how the process ended in the last one (see `Died`); empty if that is not known.

    The HTTP status is 500 and not 503, because after a 503 one of fal's clients asks for the result again and again,
    forever.
    """
    sentence = f"The worker died while it worked on this request, {_times(attempts)}."
    if reason == "SIGKILL":  # Nothing in this server sends it while the request is wanted.
        sentence += " Most likely the machine's memory ran out; a lower resolution or fewer frames need less."
    return service_error(500, sentence, "runner_server_error")


def machine_failed(attempts: int, reason: str) -> Outcome:
    """Returns the outcome of a request whose last attempt failed because of this machine, such as an error of its disk.

    `attempts` is the number of attempts, `reason` the error message of the operating system.
    """
    sentence = f"This server failed while it worked on this request ({reason}), {_times(attempts)}."
    return service_error(500, sentence, "runner_server_error")


def download_died(attempts: int) -> Outcome:
    """Returns the outcome of a request whose files could not be downloaded: in the last attempt the server died.

    `attempts` is the number of attempts at the download.
    """
    sentence = f"The server died while it downloaded the files of this request, {_times(attempts)}."
    return service_error(500, sentence, "runner_server_error")


def download_failed(attempts: int, reason: str) -> Outcome:
    """Returns the outcome of a request whose files could not be downloaded because this machine failed each time.

    `attempts` is the number of attempts at the download, `reason` the last error message of the operating system.
    """
    sentence = f"This server failed while it downloaded the files of this request ({reason}), {_times(attempts)}."
    return service_error(500, sentence, "runner_server_error")


def files_missing(attempts: int) -> Outcome:
    """Returns the outcome of a request whose downloaded files were gone each time when a worker process began it.

    `attempts` is the number of times that the files were downloaded.
    """
    sentence = f"The files of this request were downloaded {_times(attempts)}, and were gone each time when it began."
    return service_error(500, sentence, "runner_server_error")


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def done(message: Done, url: str) -> Outcome:
    """Returns the outcome of the finished request that `message` reports.

    `url` is the URL of its video. It may be a data URI.
    """
    response = message.response | {"video": message.response.get("video", {}) | {"url": url}}
    return Outcome(
        200,
        response,
        headers={
            "x-fal-billable-units": str(message.billable_units),
            "x-longtake-model": message.model,
            **({} if message.stand_in is None else {"x-longtake-stand-in": message.stand_in}),
        },
        price_usd=message.price_usd,
        timings=message.timings,
    )


def not_fetched(error: LongtakeError) -> Outcome:
    """Returns the outcome of a request whose files could not be downloaded. The request is not billed."""
    return failed(Failed.of(error))


def failed(message: Failed) -> Outcome:
    """Returns the outcome of a request that ended with the error in `message`. The request is not billed."""
    return Outcome(
        message.status, message.body, error=message.error, error_type=message.error_type, headers=NOT_RETRIED
    )


FETCH_BROKE = not_fetched(
    LongtakeError("Something failed while the files were downloaded; the server's log has the traceback.")
)
"""The outcome of a request whose files could not be downloaded because of an error in this program."""
