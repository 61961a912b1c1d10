"""The outcomes of requests: those that a worker process reports, and those of failures outside of it."""

from longtake.queue.requests import Outcome
from longtake.worker.messages import Done, Failed

NOT_BILLED = {"x-fal-billable-units": "0"}


def service_error(status_code: int, sentence: str, error_type: str, **headers: str) -> Outcome:
    """Returns an error of the service, not of the model: with fal's flat body, and the error type in a header too."""
    return Outcome(
        status_code,
        {"detail": sentence, "error_type": error_type},
        error=sentence,
        error_type=error_type,
        headers=NOT_BILLED | {"x-fal-error-type": error_type} | headers,
    )


NOT_STARTED_IN_TIME = service_error(
    504,
    "The request was not started within the time that it allowed.",
    "request_timeout",
    **{"x-fal-request-timeout-type": "user"},
)
"""The outcome of a request that waited longer than its client allows."""

NOT_STORED = service_error(500, "The result could not be kept.", "internal_error")
"""The outcome of a request whose real outcome cannot be stored, for example because it is not valid JSON."""


def worker_died(attempts: int) -> Outcome:
    """Returns the outcome of a request whose worker process died in each of its attempts.

    Its status is not 503, because one of fal's clients would then ask for the final result forever.
    """
    times = "once" if attempts == 1 else f"{attempts} times"
    return service_error(500, f"The worker died while it worked on this request, {times}.", "runner_server_error")


def done(message: Done, url: str) -> Outcome:
    """Returns the outcome of a finished request. `url` is the address of its video, perhaps a data URI."""
    response = message.response | {"video": message.response.get("video", {}) | {"url": url}}
    return Outcome(
        200,
        response,
        headers={
            "x-fal-billable-units": str(message.billable_units),
            "x-longtake-price-usd": str(message.price_usd),
        },
        price_usd=message.price_usd,
        timings=message.timings,
    )


def failed(message: Failed) -> Outcome:
    """Returns the outcome of a request that the worker process could not carry out."""
    error_header = {"x-fal-error-type": message.error_type} if message.error_type else {}
    return Outcome(
        message.status,
        message.body,
        error=message.error,
        error_type=message.error_type,
        headers=NOT_BILLED | error_header,
    )
