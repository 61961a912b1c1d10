"""The requests that are measured: each endpoint at its defaults, for a clip of five seconds at 1280x720 with sound."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from bench.gpu.device import Machine
from bench.gpu.true_size import RandomParts, load_random
from longtake.endpoints import Endpoint, ltx23, ltxv097, ltxv098
from longtake.endpoints.validation import parse
from longtake.library import output_type
from longtake.media.encode import Encoder
from longtake.media.formats import output_format
from longtake.models.choice import ModelChoice
from longtake.models.parts import AnyModel
from longtake.models.registry import ModelCard, card
from longtake.parameters import request_data
from longtake.planning import NO_OVERRIDES, Overrides
from longtake.prepare import Fetcher, Job, prepare
from longtake.runner import Runner
from longtake.settings import Settings, settings
from longtake.video import OnProgress

PROMPT = "a red circle moves left quickly over green clouds while the camera follows it"
RATE = Fraction(24)

NEW_TOKENS = 200
"""The length of an expanded prompt in tokens."""

QUICK_CARD = {"native_short_side": 32, "prompt_tokens": 32}
"""The facts of a card that differ with `--quick`: small frames and short prompts."""

QUICK_GUIDANCE: Mapping[str, Mapping[str, Any]] = {"ltxv": {"guidance": "tiny"}, "ltx2": {"stg_blocks": (1,)}}
"""The facts of a card that differ with `--quick`, by family: guidance that needs no more than four blocks."""


@dataclass(frozen=True)
class Case:
    """An endpoint at its defaults.

    name: the name in figures.
    endpoint: the endpoint.
    quick: the parameters that make the request cheap for `--quick`.
    named: the parameters that differ from the defaults.
    """

    name: str
    endpoint: Endpoint[Any, Any]
    quick: Mapping[str, Any]
    named: Mapping[str, Any] = field(default_factory=dict)


QUICK = Overrides(new_frames=8, quality="low", write_mode="fast")
"""The length of the output and the effort of its encoder with `--quick`."""

CASES = {
    case.name: case
    for case in (
        Case("0.9.8", ltxv098.ENDPOINT, {"resolution": "480p", "first_pass_num_inference_steps": 2}),
        Case("0.9.7", ltxv097.ENDPOINT, {"resolution": "480p", "num_inference_steps": 2}),
        Case("2.3", ltx23.ENDPOINT, {"video_size": (128, 64), "num_context_frames": 9, "num_inference_steps": 8}),
    )
}
"""All cases by name."""


@dataclass(frozen=True)
class Bench:
    """The objects that all measurements of a run share.

    machine: the machine.
    folder: the folder of the clip, the outputs and the adapter.
    """

    machine: Machine
    folder: Path

    @property
    def source(self) -> RandomParts:
        """The source of the models' parts."""
        return RandomParts(small=self.machine.quick)

    def settings(self, **changes: Any) -> Settings:
        """Returns the settings of this machine, in which no published model is installed."""
        own = {"device": str(self.machine.device), **changes}
        return settings(models_dir=self.folder / "models", data_dir=self.folder / "data", **own)

    def card(self, case: Case) -> ModelCard:
        """Returns the card of a case's published model. With `--quick` it is that of a small model."""
        published = card(case.endpoint.models[0])
        quick = {**QUICK_CARD, **QUICK_GUIDANCE[published.family]}
        return replace(published, **quick) if self.machine.quick else published

    def load(self, card: ModelCard, settings: Settings, on_progress: OnProgress) -> AnyModel:
        """Loads the model of a card with random weights."""
        return load_random(card, settings, on_progress, self.source, 8 if self.machine.quick else NEW_TOKENS)

    def runner(self) -> Runner:
        """Returns a runner whose models have random weights."""
        return Runner(self.settings(), load_model=self.load)

    @contextmanager
    def job(self, case: Case) -> Iterator[Job]:
        """Context manager that gives the job of a case: its plan and its opened source."""
        quick = self.machine.quick
        named = {"prompt": PROMPT, "seed": 1, **case.named, **(case.quick if quick else {})}
        data = request_data(case.endpoint, named, {}, str(self.clip()))
        request = parse(case.endpoint.Request, data, forbid_unknown=True)
        choice, fetcher = ModelChoice(self.card(case)), Fetcher(allow_local=True)
        overrides = QUICK if quick else NO_OVERRIDES
        with prepare(case.endpoint, request, choice, self.settings(), overrides=overrides, fetcher=fetcher) as job:
            yield job

    def clip(self) -> Path:
        """Returns the path of the source clip, which is made at the first call: a pan over a texture, with a tone."""
        path = self.folder / "clip.mp4"
        if not path.exists():
            width, height, seconds = (160, 96, 1) if self.machine.quick else (1280, 720, 5)
            write_clip(path, width, height, seconds)
        return path


def write_clip(path: Path, width: int, height: int, seconds: int) -> None:
    """Writes a clip of `width` x `height` pixels with 24 frames per second, in which the camera pans over a texture."""
    coarse = np.random.default_rng(0).integers(0, 256, (height // 8, width // 4, 3), np.uint8)
    texture = coarse.repeat(8, axis=0).repeat(8, axis=1)
    with Encoder(path, output_format(output_type(path), "high", "fast"), width, height, RATE) as video:
        for second in range(seconds):
            tone = np.sin(np.arange(48_000) * 0.03).astype(np.float32) * 0.1
            video.write_sound(np.stack([tone, tone]))
            shifts = (second * int(RATE) + np.arange(int(RATE))) % width
            video.write(np.stack([texture[:, shift : shift + width] for shift in shifts]))
