"""The price of one billed unit of an endpoint, as an operator sets it."""

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Price = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]


class PriceSetting(BaseModel):
    """The operator's prices of one billed unit of an endpoint, such as a second of new video, in US dollars.

    usd: the usual price.
    usd_with_lora: the price if the request applies a LoRA; None if a request with a LoRA costs `usd`, too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    usd: Price
    usd_with_lora: Price | None = None
