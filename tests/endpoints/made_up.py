"""An endpoint that exists in the tests alone: GIFs, an end image, LoRAs, and a price by frames, under names of its own.

    python -m tests.endpoints.made_up

is a worker process that knows it.
"""

from decimal import Decimal
from fractions import Fraction

from pydantic import BaseModel, Field

from longtake.endpoints import ENDPOINTS
from longtake.endpoints.endpoint import Endpoint
from longtake.endpoints.fields import LoRAWeight, VideoFile, planned_loras
from longtake.endpoints.tariff import Tariff
from longtake.families.ltx2 import FAMILY
from longtake.families.ltx2.options import GuidanceScales, LTX2Options
from longtake.video import VideoInfo


class Footage(BaseModel):
    """The video to extend."""

    address: str = Field(description="Where the clip is.")
    from_its_start: bool = Field(False, description="Whether it is extended at its start.")


class Request(BaseModel):
    """The input."""

    text: str = Field(description="What happens.")
    footage: Footage
    picture: str | None = Field(None, description="The picture to arrive at.")
    length: int = Field(24, ge=8, le=96, description="How many frames are new.")
    adapters: list[LoRAWeight] = Field([], description="Adapters.")
    number: int | None = Field(None, description="The seed.")


class Response(BaseModel):
    """The output."""

    video: VideoFile
    seed: int


def options(request: Request, source: VideoInfo) -> LTX2Options:
    """Maps the request onto the family's options."""
    return LTX2Options(
        prompt=request.text,
        seed=request.number,
        check_safety=False,
        new_frames=request.length,
        end_image=request.picture,
        adapters=planned_loras(request.adapters),
        output="GIF (.gif)",
        direction="backward" if request.footage.from_its_start else "forward",
        multiscale=False,
        steps=8,
        scheduler="linear_quadratic",
        sound=False,
        video=GuidanceScales(),
        audio=GuidanceScales(),
    )


ENDPOINT = Endpoint(
    id="made-up/loops/extend",
    name="loops",
    display_name="Made up",
    title="Loops, for a test.",
    family=FAMILY,
    models=("ltx-2.3", "ltx2-tiny"),
    Request=Request,
    Response=Response,
    options=options,
    tariff=Tariff("frames", Decimal("0.001"), lambda plan: Fraction(plan.new_frames)),
    source_field=("footage", "address"),
    count_field="length",
    end_image_field="picture",
)

if __name__ == "__main__":
    from longtake.worker import main as worker

    ENDPOINTS[ENDPOINT.id] = ENDPOINT
    worker.main()
