"""Carries out the requests of `tests/data/record.json` and describes what came of each.

    python -m tests.record.replay [OUT.json]

writes the record with the pictures that this version makes; plans and notes stay those of `made_by`.
"""

import base64
import hashlib
import json
import math
import sys
import tempfile
import zlib
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file

from longtake import library
from longtake.endpoints import ENDPOINTS
from longtake.endpoints.validation import parse
from longtake.families import plan_to_json
from longtake.media.encode import Encoder
from longtake.models.registry import card
from longtake.parameters import UserInput, local_request
from longtake.prepare import Fetcher, prepare
from longtake.runner import Result, Runner
from longtake.settings import Settings, settings

RECORD = Path(__file__).parents[1] / "data" / "record.json"
CLIP = Path(__file__).parents[2] / "examples" / "clip.mp4"

Frames = NDArray[np.uint8]


class Replay:
    """A place for the requests' files, and a runner for each family, so that every model is loaded once."""

    def __init__(self, folder: Path, record: Mapping[str, Any]) -> None:
        self.folder = folder
        self.names = {"CLIP": str(CLIP), "IMAGE": str(folder / "image.png")}
        _image(record["image"]).save(folder / "image.png")
        (folder / "loras").mkdir()
        for name, recipe in record["loras"].items():
            save_file(_lora(recipe), folder / "loras" / name)
        self.runners: dict[str, Runner] = {}
        self.count = 0

    def settings(self, request: Mapping[str, Any]) -> Settings:
        return settings(
            models_dir=self.folder / "models",
            loras_dir=self.folder / "loras",
            device="cpu",
            offline=True,
            acceleration=request.get("acceleration", "none"),
        )

    def outcome(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The plan, the response and the finished file of a recorded request."""
        digest, write = hashlib.sha256(), Encoder.write

        def watched(encoder: Encoder, frames: Any) -> None:
            digest.update(np.ascontiguousarray(frames).tobytes())
            write(encoder, frames)

        Encoder.write = watched  # type: ignore[assignment,method-assign]
        try:
            result = self.by_api(request) if request["way"] == "api" else self.by_command_line(request)
        finally:
            Encoder.write = write  # type: ignore[method-assign]
        names = {value: name for name, value in self.names.items()}
        return {
            "plan": _replaced(plan_to_json(result.plan), names),
            "response": result.response(""),
            "notes": list(result.notes),
            "has_sound": result.has_sound,
            "encoder_sha256": digest.hexdigest(),
            "file": seen(result.path),
        }

    def by_api(self, request: Mapping[str, Any]) -> Result:
        """As a worker does it."""
        endpoint, here = ENDPOINTS[request["endpoint"]], self.settings(request)
        parsed = parse(endpoint.Request, _replaced(request["body"], self.names))
        with prepare(endpoint, parsed, endpoint.card(here), here, fetcher=Fetcher(allow_local=True)) as job:
            path = self._place() / f"longtake-{job.plan.seed}{job.plan.output_format.suffix}"
            return self._runner(endpoint.models[1], here).run(job, path)

    def by_command_line(self, request: Mapping[str, Any]) -> Result:
        endpoint, here = ENDPOINTS[request["endpoint"]], self.settings(request)
        out = self._place() / f"out{request['suffix']}"
        beside = {name: request[name] for name in ("new_frames", "quality", "write_mode")}
        given = UserInput(request["given"] | beside, str(CLIP), output=library.output_type(out))
        call = local_request(endpoint, given, here)
        with library.open_job(call, here) as job:
            return self._runner(endpoint.models[1], here).run(job, out)

    def _place(self) -> Path:
        self.count += 1
        folder = self.folder / f"r{self.count}"
        folder.mkdir()
        return folder

    def _runner(self, model: str, here: Settings) -> Runner:
        if model not in self.runners:
            self.runners[model] = Runner(here)
            self.runners[model].load(card(model))
        return self.runners[model]


def _image(recipe: Mapping[str, Any]) -> Image.Image:
    assert recipe["formula"] == {"red": "4 * x", "green": "4 * y", "blue": "128"}
    ys, xs = np.mgrid[: recipe["height"], : recipe["width"]]
    return Image.fromarray(np.stack([4 * xs, 4 * ys, np.full_like(xs, 128)], axis=-1).astype(np.uint8))


def _lora(recipe: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Two small changes, drawn in the order that the record tells."""
    rng, tensors = np.random.default_rng(recipe["seed"]), {}
    for name, out, inside in recipe["layers"]:
        for side, shape in (("A", (recipe["rank"], inside)), ("B", (out, recipe["rank"]))):
            values = recipe["spread"] * rng.standard_normal(shape)
            tensors[f"transformer.{name}.lora_{side}.weight"] = values.astype(recipe["dtype"])
    return tensors


def _replaced(value: Any, names: Mapping[str, str]) -> Any:
    """JSON with these strings in place of those."""
    match value:
        case str():
            return names.get(value, value)
        case list():
            return [_replaced(one, names) for one in value]
        case dict():
            return {name: _replaced(one, names) for name, one in value.items()}
    return value


def seen(path: Path) -> dict[str, Any]:
    """The file's picture and sound, decoded by PyAV alone: hashes, and frames reduced to 8 x 8."""
    digest, small = hashlib.sha256(), []
    with av.open(str(path)) as file:
        rate = file.streams.video[0].average_rate
        assert rate is not None
        for frame in file.decode(video=0):
            picture = frame.to_ndarray(format="rgb24")
            digest.update(picture.tobytes())
            small.append(_thumbnail(picture))
        height, width = picture.shape[:2]
    return {
        "num_frames": len(small),
        "width": width,
        "height": height,
        "rate": str(Fraction(rate)),
        "frames_sha256": digest.hexdigest(),
        "thumbnails": base64.b64encode(zlib.compress(np.stack(small).tobytes(), 9)).decode(),
        "sound": _heard(path),
    }


def thumbnails(file: Mapping[str, Any]) -> NDArray[np.int64]:
    """The reduced frames [t, 8, 8, 3] of a description."""
    packed = zlib.decompress(base64.b64decode(file["thumbnails"]))
    return np.frombuffer(packed, np.uint8).reshape(-1, 8, 8, 3).astype(np.int64)


def _thumbnail(picture: Frames) -> Frames:
    """[H, W, 3] as [8, 8, 3]: the means of equal cells."""
    height, width = picture.shape[:2]
    rows, columns = ([i * n // 8 for i in range(9)] for n in (height, width))
    sums = np.add.reduceat(np.add.reduceat(picture.astype(np.int64), rows[:8], 0), columns[:8], 1)
    counts = (np.diff(rows)[:, None] * np.diff(columns)[None])[..., None]
    means: Frames = ((2 * sums + counts) // (2 * counts)).astype(np.uint8)
    return means


def _heard(path: Path) -> dict[str, Any] | None:
    """Length and level of the sound, in dBFS for each tenth of a second."""
    with av.open(str(path)) as file:
        if not file.streams.audio:
            return None
        stream = file.streams.audio[0]
        resampler = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
        chunks = [one.to_ndarray() for frame in file.decode(audio=0) for one in resampler.resample(frame)]
        samples = np.concatenate([*chunks, *(one.to_ndarray() for one in resampler.resample(None))], axis=1)
        rate = stream.rate
    levels = []
    for start in range(0, samples.shape[1], rate // 10):
        power = float((samples[:, start : start + rate // 10].astype(np.float64) ** 2).mean())
        levels.append(round(10 * math.log10(power), 1) if power > 1e-12 else -120.0)
    return {"rate": rate, "num_samples": samples.shape[1], "levels": levels}


def main() -> None:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    record = json.loads(RECORD.read_text())
    with tempfile.TemporaryDirectory() as folder:
        replay = Replay(Path(folder), record)
        for request in record["requests"]:
            made = replay.outcome(request)
            request |= {name: made[name] for name in ("encoder_sha256", "file", "response")}
            print(request["name"], flush=True)
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else RECORD
    out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
