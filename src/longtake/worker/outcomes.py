"""How requests end: what the worker process says as an outcome, and the ends that nobody says."""

from decimal import Decimal

from longtake.queue.requests import Outcome
from longtake.worker.process import Message

NOT_BILLED = {"x-fal-billable-units": "0"}


def flat(status_code: int, sentence: str, error_type: str, **headers: str) -> Outcome:
    """An error of the service, not of the model: fal's flat body, and its type as a header too."""
    return Outcome(
        status_code,
        {"detail": sentence, "error_type": error_type},
        error=sentence,
        error_type=error_type,
        headers=NOT_BILLED | {"x-fal-error-type": error_type} | headers,
    )


LATE = flat(
    504,
    "The request was not started within the time that it allowed.",
    "request_timeout",
    **{"x-fal-request-timeout-type": "user"},
)

BROKEN = flat(500, "The result could not be kept.", "internal_error")


def lost(attempts: int) -> Outcome:
    """Of a request whose worker died each time. Not 503: one of the clients would ask again and again for a result that
    is final."""
    times = "once" if attempts == 1 else f"{attempts} times"
    return flat(500, f"The worker died while it worked on this request, {times}.", "runner_server_error")


def done(message: Message, url: str) -> Outcome:
    """The result with its video's address."""
    response = dict(message["response"])
    response["video"] = response.get("video", {}) | {"url": url}
    price = Decimal(message["price_usd"])
    return Outcome(
        200,
        response,
        headers={"x-fal-billable-units": str(message["billable_units"]), "x-longtake-price-usd": str(price)},
        price_usd=price,
        timings=message.get("timings") or {},
    )


def failed(message: Message) -> Outcome:
    """The error that the worker process tells."""
    error_type = message.get("error_type")
    headers = NOT_BILLED | ({"x-fal-error-type": str(error_type)} if error_type else {})
    return Outcome(
        int(message["status"]), message["body"], error=message["error"], error_type=error_type, headers=headers
    )
