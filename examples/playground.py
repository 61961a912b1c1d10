"""Makes the examples that the playground shows before the first request: a source, and a result of each miniature.

python examples/playground.py [FOLDER]

FOLDER is by default that of the playground's static files. The source is `city.mp4` at 480x270, so that the files are
small. The miniatures are the models in the package.
"""

import json
import os
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

import longtake
from longtake.media.formats import SOUND_RATE

HERE = Path(__file__).parent
STATIC = HERE.parent / "src" / "longtake" / "service" / "static"
PROMPT = "a city at night, the camera rises slowly"
SIZE = (480, 270)
NEW_FRAMES = 72
MODELS = {"ltxv": ("0.9.8", "ltxv-tiny"), "ltx2": ("2.3", "ltx2-tiny")}
"""Family -> the endpoint and the model that makes the family's example."""


def shrink(path: Path, out: Path) -> int:
    """Writes a video at the size of the examples, with silent sound. Returns its number of frames.

    LTX-2 continues silence with silence. For a video without sound it would make a sound of its own.
    """
    with av.open(str(path)) as source, av.open(str(out), "w", options={"movflags": "faststart"}) as file:
        rate = Fraction(source.streams.video[0].average_rate or 25)
        stream = file.add_stream("libx264", rate=rate, options={"crf": "26"})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        sound = file.add_stream("aac", rate=SOUND_RATE)
        count = 0
        for frame in source.decode(video=0):
            shown = frame.reformat(*SIZE, "yuv420p", interpolation="LANCZOS")
            shown.pts, shown.time_base = count, 1 / rate
            file.mux(stream.encode(shown))
            count += 1
        file.mux(stream.encode(None))
        silence = av.AudioFrame.from_ndarray(
            np.zeros((2, round(count * SOUND_RATE / rate)), np.float32), format="fltp", layout="stereo"
        )
        silence.sample_rate, silence.pts = SOUND_RATE, 0
        file.mux([*sound.encode(silence), *sound.encode(None)])
    return count


def poster(path: Path, out: Path) -> None:
    """Writes the last frame of a video as a JPEG file."""
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
    frames[-1].to_image().resize(SIZE).save(out, quality=75)


def main(folder: Path) -> None:
    source = folder / "example_source.mp4"
    count = shrink(HERE / "city.mp4", source)
    examples = {}
    for family, (endpoint, model) in MODELS.items():
        out = folder / f"example_{family}.mp4"
        result = longtake.extend(
            source,
            out,
            prompt=PROMPT,
            endpoint=endpoint,
            model=model,
            overwrite=True,
            new_frames=NEW_FRAMES,
            seed=1,
            quality="low",
        )
        poster(out, folder / f"example_{family}.jpg")
        examples[family] = {
            "prompt": PROMPT,
            "model": result.model.card.name,
            "source_frames": count,
            "num_frames": result.facts.num_frames,
        }
    (folder / "examples.json").write_text(json.dumps(examples, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    os.environ["LONGTAKE_CARRY_DETAIL"] = "always"  # as where a miniature stands in for a published model
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else STATIC)
