"""Measures each part of the work by itself, with each setting that changes its speed on and off in the same run."""

import itertools
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.gpu.device import empty_memory, flop, median_seconds, peak_gb, reset_peak, seconds_of, uncompiled
from bench.gpu.figures import Figure, Figures
from bench.gpu.jobs import CASES, PROMPT, Bench, Case
from bench.gpu.kernels import profiled
from bench.gpu.subject import Subject
from longtake.atomic import replacing
from longtake.families.family import GeneratedClip
from longtake.media.crf import compress
from longtake.media.encode import Encoder
from longtake.models.applying import applied
from longtake.models.host_copies import HostCopies
from longtake.models.vae_format import FORMATS, Format, set_format
from longtake.output.background import Background
from longtake.output.carrying import Carrying
from longtake.output.joining import Joiner
from longtake.sampling.vae import TILE_FRAMES, Latents, decode, decode_frames, encode_clip
from longtake.video import Check, ignore_progress

MOVED_BYTES = 4 * 10**9
"""So many bytes of a text encoder are moved between the device and the host. More would take as long per byte."""

NOT_COMPILED = " with compile off"
"""How evaluations without compiled code differ from the usual ones, for the figures' names."""

CRF = 29
"""The constant rate factor of the context's compression, the default of 0.9.8."""


@dataclass(frozen=True)
class Usual:
    """The evaluations of a case with the default settings, with which others are compared.

    predictions: what the evaluation of each pass predicts, in host memory, by the pass's number.
    operations: its floating-point operations, likewise.
    file: the file in which both are kept for a run that continues this one; None to keep nothing.
    """

    predictions: dict[int, Tensor]
    operations: dict[int, int]
    file: Path | None = None

    @classmethod
    def of(cls, case: Case, figures: Figures) -> "Usual":
        """Returns those that a stopped run has kept, or else none."""
        file = figures.beside and figures.beside.with_name(f"{figures.beside.name}-{case.name}")
        if file is None or not file.exists():
            return cls({}, {}, file)
        predictions, operations = torch.load(file)
        return cls(predictions, operations, file)

    def add(self, number: int, prediction: Tensor, operations: int) -> None:
        """Adds the evaluation of a pass."""
        self.predictions[number], self.operations[number] = prediction, operations
        if self.file is not None:
            with replacing(self.file) as new:
                torch.save((self.predictions, self.operations), new)


def measure(bench: Bench, figures: Figures) -> None:
    """Measures the device, and then the model of 0.9.8 and that of 2.3."""
    with torch.inference_mode():
        figures.add("device: 1 TFLOP of matrix products", lambda: _matrix_product(bench))
        figures.add("device: copies of 1 GB, one in each of three ways", lambda: _copies(bench))
    for name in ("0.9.8", "2.3"):
        case = CASES[name]
        usual = Usual.of(case, figures)
        with figures.attempt(name), Subject(bench, case) as subject, torch.inference_mode():
            _all_parts(subject, figures, usual)
        subject = Subject(bench, case, {"quantise": "fp8"})
        with figures.attempt(f"{name} with fp8"), subject, torch.inference_mode():
            _evaluations(subject, figures, usual, " with quantise fp8")
    _several_devices(bench, figures, usual)


def _all_parts(subject: Subject, figures: Figures, usual: Usual) -> None:
    """Measures all parts of the work with a model. If one fails, the others are measured all the same.

    usual: gets the usual evaluations.
    """

    def evaluations() -> None:
        _evaluations(subject, figures, usual)
        with uncompiled():
            _evaluations(subject, figures, usual, NOT_COMPILED)

    parts: dict[str, Callable[[], None]] = {
        "text": lambda: _text(subject, figures),  # at first, because it then leaves the device's memory to the others
        "evaluations": evaluations,
        "profile": lambda: figures.add(f"{subject.case.name}: profile of an evaluation", partial(_profile, subject)),
        "adapters": lambda: _adapters(subject, figures),
        "VAE": lambda: _vae(subject, figures),
        "frames": lambda: _frames(subject, figures),
    }
    for title, measure_part in parts.items():
        with figures.attempt(f"{subject.case.name}: {title}"):
            measure_part()


def _several_devices(bench: Bench, figures: Figures, usual: Usual) -> None:
    """Measures the evaluations of 2.3 on all devices together.

    usual: the usual evaluations. Their operations are counted, because those of other threads are not.
    """
    devices = bench.machine.together
    if devices is None:
        print("Several GPUs together are not measured, because this machine has one.")
        return
    way = f" on {devices}"
    if not figures.lack(*(f"2.3: evaluation{way}, pass {number}" for number in (1, 2))):
        return
    if not usual.predictions:
        print("Several devices together are only measured after the usual evaluations of 2.3.")
        return
    subject = Subject(bench, CASES["2.3"], {"device": devices})
    with figures.attempt(f"2.3{way}"), subject, torch.inference_mode():
        _evaluations(subject, figures, usual, way)


def _matrix_product(bench: Bench) -> Figure:
    rate = bench.machine.rate
    return Figure(1e12 / rate, details={"TFLOP/s": rate / 1e12, "dtype": str(bench.machine.dtype)})


def _copies(bench: Bench) -> Figure:
    rates = bench.machine.copy_rates()
    return Figure(sum(1e9 / rate for rate in rates.values()), details={"GB/s": {n: r / 1e9 for n, r in rates.items()}})


def timed(subject: Subject, work: Callable[[], object], operations: int | None = None, **details: Any) -> Figure:
    """Returns the figure of some work on the device: the median of its seconds, its floor and its peak memory.

    operations: its floating-point operations, if they are known and the work was done before. With None they are
        counted in a call that also warms up.
    details: other facts about the work.
    """
    machine = subject.bench.machine
    operations = flop(work) if operations is None else operations
    rate = machine.rate  # measured here at the first use, with memory of its own
    reset_peak()
    seconds = median_seconds(work, machine.rounds)
    return Figure(seconds, operations / rate, peak_gb(), {**details, "TFLOP": operations / 1e12})


def timed_once(work: Callable[[], object], **details: Any) -> Figure:
    """Returns the figure of some work that has no floor, because it is copies or work of the host, from one call.

    details: other facts about the work.
    """
    reset_peak()
    return Figure(seconds_of(work), None, peak_gb(), details)


def _text(subject: Subject, figures: Figures) -> None:
    """Measures the text encoder: a prompt and, for 2.3, its expansion and moves between the device and the host, which
    take as long per byte for each encoder."""
    name = subject.case.name
    numbers = itertools.count()

    def encoded() -> Figure:
        text = subject.model.text
        return timed(subject, lambda: text.encode(f"{PROMPT} {next(numbers)}"))  # prompts that are not in the cache

    def expand() -> object:
        return subject.model.text.expand(PROMPT, subject.frames[-1], 1)

    def expansion() -> Figure:
        first_s = seconds_of(expand)  # warms up
        return timed_once(expand, tokens=subject.model.text.max_new_tokens, **{"first call, s": first_s})

    figures.add(f"{name}: encode a prompt", encoded)
    if subject.case.endpoint.family.name != "ltx2":
        return
    figures.add(f"{name}: expand a prompt, with a picture", expansion)
    moves = (f"{name}: text encoder to the host", f"{name}: text encoder to the device")
    if figures.lack(*moves):
        _moves(subject.model.text, figures, *moves)


def _moves(text: Any, figures: Figures, to_host: str, to_device: str) -> None:
    """Measures the moves of some layers of a text encoder between the device and the host.

    to_host, to_device: the names of the two figures.
    """
    with torch.inference_mode(False):  # as a server moves them
        text.release()
        layers = some_layers(text.modules, MOVED_BYTES)
        size = {"GB": sum(weight.nbytes for weight in layers.parameters()) / 1e9}
        stays = next(layers.parameters()).device.type == text.device.type
        copies = HostCopies(layers.to("cpu"), text.device, pinned=text.device.type == "cuda")
        figures.add(to_device, lambda: timed_once(copies.onload, **size))
        copies.onload()  # if a stopped run has measured it
        figures.add(to_host, lambda: timed_once(copies.release, **size))
        if stays:
            copies.onload()


def some_layers(modules: Iterable[nn.Module], num_bytes: int) -> nn.ModuleList:
    """Returns the first layers of modules, so many that their weights have `num_bytes` bytes, or all of them."""
    found, total = nn.ModuleList(), 0
    for layer in (layer for module in modules for layer in module.modules() if isinstance(layer, nn.Linear)):
        if total >= num_bytes:
            break
        found.append(layer)
        total += layer.weight.nbytes
    return found


def _evaluations(subject: Subject, figures: Figures, usual: Usual, way: str = "") -> None:
    """Measures the evaluations of a step of each pass.

    usual: the usual evaluations. If `way` is empty, they are added to it; otherwise the predictions are compared with
        theirs.
    way: how these evaluations differ from the usual ones, for the figures' names.
    """
    title = f"{subject.case.name}: evaluation{way}"

    def measured(number: int) -> Figure:
        evaluation = subject.evaluations[number]
        subject.model.text.release()
        details: dict[str, Any] = {"predictions": evaluation.predictions, "tokens": evaluation.tokens}
        if way != NOT_COMPILED:
            details["computed in"] = subject.model.arithmetic
        found: list[Tensor] = []
        details["first call, s"] = seconds_of(lambda: found.append(evaluation.work()))
        prediction = found[0].float().cpu()
        details["finite"] = bool(prediction.isfinite().all())
        exact, operations = usual.predictions.get(number), usual.operations.get(number)
        if way and exact is not None:
            details["relative difference"] = float((prediction - exact).norm() / exact.norm())
        if operations is None:
            operations = flop(evaluation.work)
        if not way:
            usual.add(number, prediction, operations)
        return timed(subject, evaluation.work, operations, **details)

    passes = {"ltxv": 1, "ltx2": 2}[subject.case.endpoint.family.name]
    for number in range(passes):
        figures.add(title if passes == 1 else f"{title}, pass {number + 1}", partial(measured, number))


def _profile(subject: Subject) -> Figure:
    """Measures which kinds of work the device does in an evaluation of the first pass."""
    subject.model.text.release()
    work = subject.evaluations[0].work
    work()  # warms up, if a stopped run has measured the evaluations
    seconds, shares, number = profiled(subject.bench.machine, work)
    return Figure(seconds, details={"pieces of work": number, "share": shares})


def _adapters(subject: Subject, figures: Figures) -> None:
    """Measures an adapter of the rank of the distill adapter: applied, with other scales, in use, and removed. Then an
    evaluation must have the same bits as before."""
    prefix = f"{subject.case.name}: adapter"
    ways = ("applied the first time", "with another scale", "in an evaluation", "removed", "applied again")
    first, rescaled, used, removed, again = names = [f"{prefix} {way}" for way in ways]
    if subject.case.endpoint.family.name != "ltx2" or not figures.lack(*names):
        return
    model, adapter = subject.model, subject.adapter()
    model.text.release()
    size = {"GB": adapter.num_bytes / 1e9, "layers": len(adapter.pairs)}

    def applied_adapter() -> Any:
        return applied(model.transformer, [(adapter, (0.2, 0.5))], originals=model.originals)

    def apply(stack: ExitStack) -> None:
        stack.enter_context(applied_adapter())(0)

    def remove(stack: ExitStack) -> Figure:
        figure = timed_once(stack.close)
        after = subject.evaluations[0].work()
        return replace(figure, details={"same bits as before": torch.equal(before, after)})

    before = subject.evaluations[0].work()
    with ExitStack() as stack:
        if figures.lack(first):
            figures.add(first, lambda: timed_once(lambda: apply(stack), **size))
        elif figures.lack(removed, again):  # a stopped run has measured it
            apply(stack)
        figures.add(removed, lambda: remove(stack))
    with ExitStack() as stack:
        figures.add(again, lambda: timed_once(lambda: apply(stack)))
    with applied_adapter() as set_pass:
        set_pass(0)
        figures.add(rescaled, lambda: timed_once(lambda: set_pass(1)))
        figures.add(used, lambda: timed_once(subject.evaluations[0].work))


def _vae(subject: Subject, figures: Figures) -> None:
    """Measures the VAE: the way of the package, and one tile of time in other ways."""
    name = subject.case.name

    def context() -> Figure:
        frames = subject.frames
        return timed_once(lambda: compress(frames, CRF), frames=len(frames))

    def encoded() -> Figure:
        vae, frames, canvas = subject.model.vae, subject.frames, subject.canvas
        return timed(subject, lambda: encode_clip(vae, frames, canvas, subject.device), frames=len(frames))

    def decoded() -> Figure:
        plan = subject.job.plan
        first, last = plan.context_frames - 1, plan.context_frames + plan.new_frames
        latents = subject.latents(last)

        def work() -> None:
            for _ in decode_frames(
                subject.model.vae, iter([Latents(latents, True)]), first, last, timestep=subject.decode_timestep
            ):
                pass

        computed = subject.model.arithmetic
        return timed(subject, work, frames=last - first, canvas=list(subject.canvas), computed=computed)

    def tile() -> Tensor:
        card = subject.job.card
        return subject.latents(2 * card.temporal_compression if subject.bench.machine.quick else TILE_FRAMES)

    def as_in_requests() -> Figure:
        latents = tile()

        def work() -> Tensor:
            return decode(subject.model.vae, latents, subject.decode_timestep)

        return timed(subject, work, latents=latents.shape[2])

    def whole(format: Format) -> Figure:
        vae, latents = subject.model.vae, tile().to(subject.model.vae.dtype)
        time = torch.full((1,), subject.decode_timestep, device=subject.device, dtype=vae.dtype)
        vae.disable_tiling()
        set_format(vae, format)
        return timed(subject, lambda: vae.decode(latents, time if vae.config.timestep_conditioning else None))

    figures.add(f"{name}: CRF round trip of the context", context)
    figures.add(f"{name}: encode the context", encoded)
    figures.add(f"{name}: decode the new frames", decoded)
    figures.add(f"{name}: decode a tile of time, as in requests", as_in_requests)
    for format in FORMATS:
        empty_memory()
        figures.add(f"{name}: decode a tile of time, untiled, {format}", partial(whole, format))


class NullWriter:
    """A writer that writes nothing, because what is measured ends with the frames in host memory."""

    def write(self, frames: Any) -> None:
        pass

    def write_source(self, frames: Any, check: Check) -> None:
        pass

    def write_sound(self, samples: Any) -> None:
        pass


def _frames(subject: Subject, figures: Figures) -> None:
    """Measures the way of new frames from the decoder to integers in host memory, and their encoding to the file."""
    name = subject.case.name

    def to_host() -> Figure:
        plan, seen = subject.job.plan, subject.frames
        pixels = torch.rand(plan.new_frames, 3, plan.height, plan.width, device=subject.device)

        def work() -> None:
            chunks = iter(pixels.split(8))
            clip = GeneratedClip(chunks, plan.new_frames, plan.context_frames, rendition=pixels[0])
            with Background() as background:
                source = subject.job.source
                joiner = Joiner(plan, source, None, NullWriter(), Carrying(), ignore_progress, background)
                joiner.add(iter([clip]), seen)

        work()  # warms up: in a server, earlier requests have made the memory that the host shares with the device
        return timed_once(work, frames=plan.new_frames, size=list(plan.size))

    def encode() -> Figure:
        plan = subject.job.plan
        frames = np.resize(subject.frames, (plan.new_frames, plan.height, plan.width, 3))
        path = subject.bench.folder / "frames.mp4"

        def work() -> None:
            with Encoder(path, plan.output_format, plan.width, plan.height, plan.rate, sound_rate=None) as video:
                video.write(frames)

        return timed_once(work, frames=plan.new_frames)

    figures.add(f"{name}: new frames to integers on the host", to_host)
    figures.add(f"{name}: encode the new frames to a file", encode)
