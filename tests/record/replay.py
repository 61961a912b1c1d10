"""Carries out the recorded requests of `tests/data/record.json` and describes their results.

    python -m tests.record.replay [OUT.json]

writes the record with the pictures of this version. Plans and notes stay those of the version `made_by`.
"""

import base64
import hashlib
import json
import math
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
from longtake.models.choice import named_model
from longtake.models.registry import card
from longtake.parameters import UserInput, local_request
from longtake.plans import Plan
from longtake.prepare import Fetcher, Job, prepare
from longtake.runner import Result, Runner
from longtake.settings import Settings, settings

RECORD = Path(__file__).parents[1] / "data" / "record.json"
CLIP = Path(__file__).parents[2] / "examples" / "clip.mp4"

Frames = NDArray[np.uint8]


class Replay:
    """Carries out requests in one folder, with a runner for each model so that it is loaded once."""

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

    def plan(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the plan of a recorded request as JSON."""
        with self.job(request) as job:
            return self._plan_json(job.plan)

    def result(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Carries out a recorded request; returns its plan, its response and a description of the finished file."""
        digest, write = hashlib.sha256(), Encoder.write

        def watched(encoder: Encoder, frames: Any) -> None:
            digest.update(np.ascontiguousarray(frames).tobytes())
            write(encoder, frames)

        Encoder.write = watched  # type: ignore[assignment,method-assign]
        try:
            result = self._run(request)
        finally:
            Encoder.write = write  # type: ignore[method-assign]
        return {
            "plan": self._plan_json(result.plan),
            "response": result.response(""),
            "notes": list(result.notes),
            "has_sound": result.has_sound,
            "encoder_sha256": digest.hexdigest(),
            "file": described(result.path),
        }

    @contextmanager
    def job(self, request: Mapping[str, Any]) -> Iterator[Job]:
        """Yields the job of a request, prepared as a worker or the command line does."""
        endpoint, current = ENDPOINTS[request["endpoint"]], self.settings(request)
        if request["way"] == "api":
            parsed = parse(endpoint.Request, _replaced(request["body"], self.names))
            model = named_model(endpoint.models[1], current)
            with prepare(endpoint, parsed, model, current, fetcher=Fetcher(allow_local=True)) as job:
                yield job
            return
        local = {name: request[name] for name in ("new_frames", "quality", "write_mode")}
        output = library.output_type(Path(f"out{request['suffix']}"))
        call = local_request(
            endpoint, UserInput(request["given"] | local, str(CLIP), output=output), current, endpoint.models[1]
        )
        with library.open_job(call, current) as job:
            yield job

    def _run(self, request: Mapping[str, Any]) -> Result:
        self.count += 1
        folder = self.folder / f"r{self.count}"
        folder.mkdir()
        with self.job(request) as job:
            stem = f"longtake-{job.plan.seed}" if request["way"] == "api" else "out"
            runner = self._runner(job.endpoint.models[1], self.settings(request))
            return runner.run(job, folder / f"{stem}{job.plan.output_format.suffix}")

    def _plan_json(self, plan: Plan) -> dict[str, Any]:
        values: dict[str, Any] = _replaced(plan_to_json(plan), {path: name for name, path in self.names.items()})
        return values

    def _runner(self, model: str, current: Settings) -> Runner:
        if model not in self.runners:
            self.runners[model] = Runner(current)
            self.runners[model].load(card(model))
        return self.runners[model]


def _image(recipe: Mapping[str, Any]) -> Image.Image:
    assert recipe["formula"] == {"red": "4 * x", "green": "4 * y", "blue": "128"}
    ys, xs = np.mgrid[: recipe["height"], : recipe["width"]]
    return Image.fromarray(np.stack([4 * xs, 4 * ys, np.full_like(xs, 128)], axis=-1).astype(np.uint8))


def _lora(recipe: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Low-rank factors of each layer, drawn in the order of the record."""
    rng, tensors = np.random.default_rng(recipe["seed"]), {}
    for name, out, inside in recipe["layers"]:
        for side, shape in (("A", (recipe["rank"], inside)), ("B", (out, recipe["rank"]))):
            values = recipe["spread"] * rng.standard_normal(shape)
            tensors[f"transformer.{name}.lora_{side}.weight"] = values.astype(recipe["dtype"])
    return tensors


def _replaced(value: Any, names: Mapping[str, str]) -> Any:
    """Returns JSON with the strings in `names` replaced."""
    match value:
        case str():
            return names.get(value, value)
        case list():
            return [_replaced(one, names) for one in value]
        case dict():
            return {name: _replaced(one, names) for name, one in value.items()}
    return value


def described(path: Path) -> dict[str, Any]:
    """Returns facts of a file's picture and sound, decoded with PyAV: hashes, and frames reduced to 8 x 8."""
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
        "sound": _sound_levels(path),
    }


def thumbnails(file: Mapping[str, Any]) -> NDArray[np.int64]:
    """Returns the reduced frames [t, 8, 8, 3] of a description."""
    packed = zlib.decompress(base64.b64decode(file["thumbnails"]))
    return np.frombuffer(packed, np.uint8).reshape(-1, 8, 8, 3).astype(np.int64)


def _thumbnail(picture: Frames) -> Frames:
    """Returns a frame [H, W, 3] reduced to [8, 8, 3], the means of equal cells."""
    height, width = picture.shape[:2]
    rows, columns = ([i * n // 8 for i in range(9)] for n in (height, width))
    sums = np.add.reduceat(np.add.reduceat(picture.astype(np.int64), rows[:8], 0), columns[:8], 1)
    counts = (np.diff(rows)[:, None] * np.diff(columns)[None])[..., None]
    means: Frames = ((2 * sums + counts) // (2 * counts)).astype(np.uint8)
    return means


def _sound_levels(path: Path) -> dict[str, Any] | None:
    """Returns the length of the sound and its level in dBFS for each 0.1 s; None for a silent file."""
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
            made = replay.result(request)
            request |= {name: made[name] for name in ("encoder_sha256", "file", "response")}
            print(request["name"], flush=True)
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else RECORD
    out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
