"""Draws the contact sheet of a joint: one picture with the frames before and after the place where source and new
frames meet."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
"""Red, green and blue in 0..255."""

BACKGROUND: Colour = (22, 24, 29)
TEXT: Colour = (228, 231, 236)
FAINT_TEXT: Colour = (146, 152, 163)
SOURCE: Colour = (74, 144, 226)
NEW: Colour = (242, 153, 54)
JOINT: Colour = (255, 84, 112)

_COLUMNS = 6

# Sizes in pixels.
FRAME_SIDE = 304
"""Longer side in pixels of each frame on the contact sheet, a picture with the frames around the joint."""

BORDER = 5
_GAP = 14
MARGIN = 28
_LABEL = 24
HEADER = 84
_BAR = 6
_BAR_ROOM = 26


def contact_sheet(
    frames: NDArray[np.uint8],
    joint_index: int,
    rate: Fraction,
    *,
    first_frame: int = 0,
    new_first: bool = False,
    caption: str = "",
) -> Image.Image:
    """Returns a picture of all `frames` [T, H, W, 3] in rows of six. A bar in the middle of a row marks the joint.

    joint_index: index in `frames` of the first frame after the joint, where source and new frames meet.
    rate: frames per second of the video, for the times below the frames.
    first_frame: index of `frames[0]` in the video, for the numbers and times below the frames.
    new_first: True if the new frames are before the joint, False if they are after it.
    caption: the line of text under the title.

    Raises ValueError if the joint is not between two of the frames.
    """
    if not 0 < joint_index < len(frames):
        raise ValueError(f"The joint must lie between two of the {len(frames)} frames, not before {joint_index}.")
    width, height = frame_size(frames.shape[2], frames.shape[1])
    places = [_place(index - joint_index) for index in range(len(frames))]
    top = min(row for row, _ in places)
    num_rows = max(row for row, _ in places) - top + 1
    pitch = height + 2 * BORDER + _LABEL + _GAP
    sheet = Image.new("RGB", (_left(_COLUMNS, width) - _GAP + MARGIN, HEADER + num_rows * pitch + MARGIN), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    _header(draw, sheet.width, first_frame + joint_index, rate, caption)
    for index, (row, column) in enumerate(places):
        is_new = (index >= joint_index) != new_first
        corner = _left(column, width), HEADER + (row - top) * pitch
        _cell(sheet, draw, corner, Image.fromarray(frames[index]).resize((width, height)), NEW if is_new else SOURCE)
        number = first_frame + index
        below = corner[1] + height + 2 * BORDER + 4
        draw.text((corner[0], below), str(number), TEXT, font(17))
        draw.text(
            (corner[0] + width + 2 * BORDER, below), f"{float(number / rate):.3f} s", FAINT_TEXT, font(15), anchor="ra"
        )
    x = _left(_COLUMNS // 2, width) - (_BAR_ROOM + _GAP) // 2 - _BAR // 2
    y = HEADER - top * pitch
    draw.rounded_rectangle((x, y - 8, x + _BAR - 1, y + height + 2 * BORDER + 8), _BAR // 2, JOINT)
    return sheet


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Returns one picture that shows `pictures` one below the other, aligned at the left."""
    whole = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), BACKGROUND)
    y = 0
    for picture in pictures:
        whole.paste(picture, (0, y))
        y += picture.height
    return whole


def _place(after_joint: int) -> tuple[int, int]:
    """Returns the (row, column) of the sheet at which a frame is drawn.

    The joint (where source and new frames meet) is in the middle of row 0. Rows above it have negative numbers. Column
    0 is at the left.

    after_joint: number of the frame, counted from the joint: 0 for the first frame after the joint, 1 for the next one,
        and -1 for the last frame before it.
    """
    return divmod(after_joint + _COLUMNS // 2, _COLUMNS)


def _left(column: int, width: int) -> int:
    """Returns the x coordinate in pixels of the left edge of a column of the sheet. Column 0 is at the left.

    Between the two middle columns there is room for the bar that marks the joint (where source and new frames meet).

    width: width in pixels of a frame on the sheet.
    """
    return MARGIN + column * (width + 2 * BORDER + _GAP) + (_BAR_ROOM if column >= _COLUMNS // 2 else 0)


def frame_size(width: int, height: int) -> tuple[int, int]:
    """Returns the (width, height) in pixels at which a video frame of `width` x `height` pixels is drawn on the contact
    sheet, a picture of several frames.

    The frame is scaled in proportion, so that its longer side has FRAME_SIDE pixels.
    """
    scale = Fraction(FRAME_SIDE, max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _cell(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], picture: Image.Image, colour: Colour
) -> None:
    x, y = corner
    draw.rectangle((x, y, x + picture.width + 2 * BORDER - 1, y + picture.height + 2 * BORDER - 1), colour)
    sheet.paste(picture, (x + BORDER, y + BORDER))


def _header(draw: ImageDraw.ImageDraw, width: int, joint: int, rate: Fraction, caption: str) -> None:
    title = f"The joint: before frame {joint}, at {float(joint / rate):.3f} s"
    draw.text((MARGIN, 20), title, TEXT, font(24))
    draw.text((MARGIN, 52), caption, FAINT_TEXT, font(16))
    right = width - MARGIN
    for text, colour in (("joint", JOINT), ("new", NEW), ("source", SOURCE)):
        draw.text((right, 34), text, TEXT, font(18), anchor="rm")
        right -= round(draw.textlength(text, font(18))) + 10
        thickness = _BAR if colour == JOINT else 18
        draw.rectangle((right - thickness, 25, right - 1, 43), colour)
        right -= thickness + 26


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Returns Pillow's built-in font, with which the sheet looks the same on every system; `size` is in pixels."""
    return ImageFont.load_default(size)
