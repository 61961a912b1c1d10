"""Writes a longer video with its sound beside the source with its true continuation.

python examples/beside.py LONGER AFTER OUT

AFTER holds the frames that followed the source. LONGER is the source with as many new frames.
"""

import sys
from collections.abc import Iterator
from fractions import Fraction

import av
from PIL import Image, ImageDraw, ImageOps

HEIGHT = 360
"""The height of both pictures. It is a multiple of 2, as H.264 asks for."""


def frames(path: str) -> tuple[list[Image.Image], Fraction]:
    """Returns a video's frames and its rate."""
    with av.open(path) as file:
        return [frame.to_image() for frame in file.decode(video=0)], Fraction(file.streams.video[0].average_rate or 24)


def labelled(picture: Image.Image, size: tuple[int, int], text: str) -> Image.Image:
    """Returns the picture, scaled and cropped to `size`, with `text` in a corner."""
    fitted = ImageOps.fit(picture, size)
    draw = ImageDraw.Draw(fitted)
    draw.text((10, 8), text, "white", font_size=20, stroke_width=2, stroke_fill="black")
    return fitted


def pairs(longer: list[Image.Image], after: list[Image.Image]) -> Iterator[Image.Image]:
    """Yields the frames of the comparison: the longer video on the left, the true one on the right.

    The new frames of `longer` are its last ones, as many as `after` has.
    """
    width = round(HEIGHT * longer[0].width / longer[0].height / 2) * 2
    source = len(longer) - len(after)
    for number, made in enumerate(longer):
        true = made if number < source else after[number - source]
        left, right = ("source", "source") if number < source else ("new", "true continuation")
        both = Image.new("RGB", (2 * width, HEIGHT))
        both.paste(labelled(made, (width, HEIGHT), left), (0, 0))
        both.paste(labelled(true, (width, HEIGHT), right), (width, 0))
        yield both


def main(longer: str, after: str, out: str) -> None:
    made, rate = frames(longer)
    held_back, _ = frames(after)
    pictures = list(pairs(made, held_back))
    with av.open(longer) as heard, av.open(out, "w") as file:
        stream = file.add_stream("libx264", rate=rate, options={"crf": "18"})
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt = "yuv420p"
        copies = {sound.index: file.add_stream_from_template(sound) for sound in heard.streams.audio}
        for picture in pictures:
            file.mux(stream.encode(av.VideoFrame.from_image(picture)))
        file.mux(stream.encode(None))
        for packet in heard.demux(*heard.streams.audio) if copies else ():
            if packet.dts is not None:
                packet.stream = copies[packet.stream_index]
                file.mux(packet)


if __name__ == "__main__":
    main(*sys.argv[1:])
