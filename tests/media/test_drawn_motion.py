"""Drawn sources go on by a rule, footage is carried like footage."""

import cv2
import numpy as np

from longtake.media.camera_motion import CameraMotion
from longtake.media.detail import Detail
from longtake.media.drawn_motion import carried_picture
from longtake.media.optical_flow import as_picture
from longtake.media.still_drawing import StillDrawing
from tests.media.test_still_drawing import film
from tests.media.test_still_parts import page


def test_each_kind_of_source_goes_on_in_its_way() -> None:
    for frames, kind in ((page(bar=True), CameraMotion), (film(), StillDrawing)):
        blurred = cv2.GaussianBlur(as_picture(frames[0]), (0, 0), 6)
        assert isinstance(carried_picture(frames, blurred), kind)
    noise = np.random.default_rng(0).integers(0, 255, (20, 64, 96, 3), np.uint8)
    assert isinstance(carried_picture(noise, as_picture(noise[1])), Detail)


def test_a_drawing_that_the_model_draws_well_is_left_to_the_model() -> None:
    frames = film()
    assert isinstance(carried_picture(frames, as_picture(frames[0])), Detail)
