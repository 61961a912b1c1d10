"""Trains the transformer and its text encoder by flow matching on windows of video and sound.

    torchrun --standalone --nproc-per-node 2 -m recipes.tiny_av.transformer main
    torchrun --standalone --nproc-per-node 2 -m recipes.tiny_av.transformer finish

The video stream starts from the weights of the embedded LTX-Video model, and has a lower learning rate than the new
audio stream. The stage `finish` continues from the averaged weights of `main`. More of its windows have so little
context that only the sound tells what the video shows. In the stages `bounces`, `deeper` and `ends` the LTX-Video model
is a teacher; from `deeper` on it has all its layers. In `ends` more windows have an end image, half of them that of
another clip.
"""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import nn

from recipes.tiny import latents, ranks, sampler
from recipes.tiny.curriculum import NAMES
from recipes.tiny.optim import Muon, Plan, Trainer
from recipes.tiny.render import render
from recipes.tiny.world import prompt, sample
from recipes.tiny_av import caption, configs, sounds, text, warm
from recipes.tiny_av.forward import Forward, Modality
from recipes.tiny_av.teacher import Teacher
from recipes.tiny_av.windows import (
    RATES,
    Batch,
    Clean,
    Mix,
    Stream,
    Windows,
    audio_coords,
    audio_count,
    inside,
    noised,
    spans,
    video_coords,
)

SEED = 150_000_000
HELD_OUT = 920_000_000
BLIND = dict(enumerate((0.16, 0.17, 0.03, 0.06, 0.08, 0.44, 0.03, 0.03)))
LASTING = Mix(
    groups=dict(zip(NAMES, (0.18, 0.11, 0.03, 0.03, 0.01, 0.01, 0.03, 0.46, 0.14, 0.0), strict=True)),
    context=dict(enumerate((0.04, 0.05, 0.02, 0.04, 0.05, 0.34, 0.05, 0.41))),
    straight=0.3,
    mute=0.12,
    apart=0.1,
    strange=0.12,
)
WALLS = replace(
    LASTING,
    groups=dict(zip(NAMES, (0.23, 0.11, 0.03, 0.02, 0.01, 0.01, 0.02, 0.15, 0.04, 0.38), strict=True)),
    near=0.6,
)
BOUNCES = replace(
    WALLS,
    groups=dict(zip(NAMES, (0.24, 0.09, 0.03, 0.02, 0.01, 0.01, 0.02, 0.13, 0.03, 0.42), strict=True)),
    context=dict(enumerate((0.04, 0.05, 0.02, 0.03, 0.14, 0.27, 0.05, 0.40))),
    near=0.65,
)
ENDS = replace(BOUNCES, layouts={"forward": 0.52, "image": 0.3, "backward": 0.18}, cut=0.5)


@dataclass(frozen=True)
class Stage:
    """A training stage.

    plan: the settings of the training run.
    mix: the training examples.
    to_picture: AdamW's learning rate for the weights that carry sound to the video. Muon is not used for them, because
        its steps have the same size even where there is little to learn. The video rarely needs the sound, so such
        steps would add noise, and the model would learn to close the gate.
    picture_share: the factor on Muon's learning rate for the weights that come from the LTX-Video model.
    teacher_share: the share of the LTX-Video model's velocities in the video's targets. 0: there is no teacher.
    """

    plan: Plan
    mix: Mix
    to_picture: float = 5e-4
    picture_share: float = 1.0
    teacher_share: float = 0.0


def _taught(steps: int, fall: int, mix: Mix) -> Stage:
    """Returns a stage with the LTX-Video model as a teacher. Its learning rates fall during the last `fall` steps."""
    plan = Plan(((steps, fall),), muon=1e-3, adam=6e-4, warmup=40, weight_decay=0.02, ema=0.995)
    return Stage(plan, mix, picture_share=2.5, teacher_share=0.7)


STAGES = {
    "main": Stage(
        Plan(((1950, 1450), (1800, 1)), muon=6e-3, adam=1.5e-3, warmup=60, weight_decay=0.02, ema=0.995),
        Mix(),
        to_picture=1.5e-3,
        picture_share=0.4,
    ),
    "finish": Stage(
        Plan(((240, 260),), muon=1.2e-3, adam=4e-4, warmup=10, weight_decay=0.02, ema=0.98),
        Mix(context=BLIND, heard=0.3),
        to_picture=3e-3,
        picture_share=0.4,
    ),
    "lasting": Stage(Plan(((400, 250),), muon=3e-3, adam=8e-4, warmup=40, weight_decay=0.02, ema=0.995), LASTING),
    "polish": Stage(
        Plan(((200, 200), (120, 1)), muon=1.2e-3, adam=4e-4, warmup=10, weight_decay=0.02, ema=0.98),
        LASTING,
        to_picture=2e-4,
    ),
    "walls": Stage(Plan(((1120, 620),), muon=3e-3, adam=8e-4, warmup=40, weight_decay=0.02, ema=0.995), WALLS),
    "bounces": _taught(1600, 1100, BOUNCES),
    "deeper": _taught(2700, 1800, BOUNCES),
    "ends": _taught(2000, 700, ENDS),
}
"""Stage -> its settings."""
FILES = {stage: f"transformer_{stage}.pt" for stage in ("main", "finish", "exchange", *list(STAGES)[2:])}
"""Stage -> the file of its checkpoint, in the stages' order. Each stage continues from the one before. The stage
`exchange` is in `exchange.py`."""
AUDIO_SHARE = 0.5
"""Weight of the sound's error relative to the video's."""
CHECKPOINT_EVERY = 40


def start() -> nn.ModuleDict:
    """Returns the model before training. Its video stream has the weights of the LTX-Video model."""
    old = sampler.load()
    stack, code = caption.start(old)
    return nn.ModuleDict({"transformer": warm.transformer(old.transformer, code.basis, code.centre), **stack})


def latest(stages: Iterable[str] = tuple(FILES)) -> nn.ModuleDict:
    """Returns the model with the averaged weights of the last stage in `stages` that has a checkpoint."""
    family = start()
    for file in (configs.WORK / FILES[stage] for stage in stages):
        if file.exists():
            family.load_state_dict(torch.load(file)["averaged"], strict=False)
    return family.eval()


def is_matrix(name: str, parameter: torch.Tensor) -> bool:
    """Returns True for a weight that Muon trains: a matrix inside the blocks that does not carry sound to the video."""
    small = any(part in name for part in ("table", "gate_logits", "audio_to_video"))
    return "transformer_blocks" in name and parameter.ndim == 2 and not small


class Rates(Trainer):
    """A trainer with three learning rates: for the video's matrices, for the sound's, and for the weights from sound to
    video."""

    def __init__(self, family: nn.ModuleDict, stage: Stage) -> None:
        plan = stage.plan
        super().__init__(family, plan, is_matrix)
        found = [(n, m) for n, p, m in zip(self.names, self.params, self.masters, strict=True) if is_matrix(n, p)]
        sides = [[m for n, m in found if ("audio" in n) is heard] for heard in (False, True)]
        muons = [Muon(side, lr=plan.muon, weight_decay=plan.weight_decay) for side in sides]
        between = [m for n, m in zip(self.names, self.masters, strict=True) if "audio_to_video" in n]
        others = [
            m
            for n, m in zip(self.names, self.masters, strict=True)
            if "audio_to_video" not in n and all(m is not known for _, known in found)
        ]
        adams = [
            torch.optim.AdamW(part, betas=(0.9, 0.98), weight_decay=0.0, foreach=True) for part in (between, others)
        ]
        self.optimisers = [*muons, *adams]
        self.rates = (stage.picture_share * plan.muon, plan.muon, stage.to_picture, plan.adam)


def errors(family: nn.ModuleDict, forward: Forward, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the squared error of the velocity of each token, for video and for sound: `[B, F, S]` each."""
    texts = text.encode(family, batch.ids, batch.mask)
    streams = [
        Modality(s.x.bfloat16(), s.sigmas, s.level, tokens.bfloat16(), s.coords)
        for s, tokens in zip((batch.video, batch.audio), texts, strict=True)
    ]
    video, audio = forward(streams[0], streams[1], batch.linked)
    return (video.float() - batch.video.target).square().mean(-1), (audio.float() - batch.audio.target).square().mean(
        -1
    )


def weighted(error: torch.Tensor, stream: Stream) -> torch.Tensor:
    """Returns the mean of the errors `[B, F, S]`, weighted with the stream's `weight`."""
    return (error * stream.weight).sum() / stream.weight.sum().clamp(min=1.0)


class HeldOut:
    """Straight clips that are never trained on, with 17 context frames, at three noise levels."""

    def __init__(self, windows: Windows, count: int = 32) -> None:
        scenes = [sample(HELD_OUT + i, "straight", num_frames=33) for i in range(count)]
        values = latents.encode(latents.frozen_encoder(torch.device("cpu")), render(scenes))
        clean = (values.float().permute(0, 2, 3, 4, 1).flatten(2, 3) - windows.mean) / windows.std
        known = (torch.arange(clean.shape[1]) < 5).expand(count, -1)
        touched = latents.cell_masks(scenes, 1).flatten(2).float()
        self.video = Clean(clean, touched, known)
        length = audio_count(33, RATES[0])
        found = sounds.encode(scenes, RATES[:1] * count)
        tokens = torch.stack([sound[:length] for sound in found])[:, :, None]
        heard = inside(length, 0.0, 17 / RATES[0]).expand(count, -1)
        self.audio = Clean(tokens, torch.ones(tokens.shape[:3]), heard)
        self.ids, self.mask = text.tokens(windows.words, [prompt(scene) for scene in scenes])
        self.linked = torch.ones(count)

    def batch(self, sigma: float) -> Batch:
        """Returns the clips with noise level `sigma`. In the video, only the object's cells have a weight."""
        levels = torch.full((len(self.ids),), sigma)
        dice = torch.Generator().manual_seed(HELD_OUT)
        place = video_coords(spans(self.video.tokens.shape[1]), 4, 4, RATES[0])
        video = noised(self.video, levels, 0.0, dice, place)
        audio = noised(self.audio, levels, 0.0, dice, audio_coords(self.audio.tokens.shape[1]))
        return Batch(video, audio, self.ids, self.mask, self.linked)


class Run:
    """One training stage: the model, its trainer and the training data."""

    def __init__(self, rank: int, stage: str, device: torch.device) -> None:
        settings = STAGES[stage]
        self.rank, self.mix, self.device = rank, settings.mix, device
        before = list(FILES)[: list(FILES).index(stage)]
        self.family = latest(before).train().to(device)
        self.first = sum(STAGES[name].plan.steps for name in before if name in STAGES)
        self.trainer = Rates(self.family, settings)
        self.windows = Windows(SEED, sounds.load(), sounds.silence())
        self.forward = Forward(self.family["transformer"])
        self.evaluation = Forward(self.family["transformer"], compiled=False)
        self.held_out = HeldOut(self.windows)
        self.teacher = Teacher(settings.teacher_share, device) if settings.teacher_share else None

    def loss(self, step: int) -> torch.Tensor:
        """Returns the loss of this process's batch of a step."""
        batch = self.windows.batch_of(self.mix, self.first + step, self.rank).to(self.device)
        if self.teacher is not None:
            batch = self.teacher.taught(batch)
        video, audio = errors(self.family, self.forward, batch)
        return weighted(video, batch.video) + AUDIO_SHARE * weighted(audio, batch.audio)

    @torch.no_grad()
    def judge(self) -> str:
        """Returns, as text, the errors of the averaged weights (video/sound) at noise 1, 0.91 and 0.42."""
        self.trainer.load(self.trainer.ema)
        shown = []
        for sigma in (1.0, 0.909375, 0.421875):
            batch = self.held_out.batch(sigma).to(self.device)
            video, audio = errors(self.family, self.evaluation, batch)
            shown.append(f"{float(weighted(video, batch.video)):.4f}/{float(weighted(audio, batch.audio)):.4f}")
        self.trainer.load(self.trainer.masters)
        return " ".join(shown)


def train(stage: str, resume: bool, device: torch.device) -> None:
    """Trains a stage to the end of its plan. With `resume` it continues from the checkpoint, if there is one."""
    rank, _ = ranks.start()
    run, checkpoint, steps = Run(rank, stage, device), configs.WORK / FILES[stage], STAGES[stage].plan.steps
    if resume and checkpoint.exists():
        run.trainer.resume(checkpoint)
    began, spent, total = time.time(), time.process_time(), 0.0
    for step in range(run.trainer.step_number, steps):
        loss = run.loss(step)
        norm = run.trainer.step(loss)
        total = 0.98 * total + 0.02 * float(loss.detach()) if total else float(loss.detach())
        if math.isnan(total):
            raise FloatingPointError(f"the loss of step {step} is not a number")
        if rank == 0 and ((step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps):
            run.trainer.save(checkpoint)
            minutes = f"{(time.time() - began) / 60:.1f} min, {(time.process_time() - spent) / 60:.1f} CPU-min"
            line = f"{stage} {step + 1} {minutes} loss {total:.4f} norm {norm:.2f} held out {run.judge()}"
            ranks.log(configs.WORK / "transformer.log", line)
    ranks.finish()


if __name__ == "__main__":
    parser = ranks.parser(__doc__)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("stage", choices=tuple(STAGES))
    arguments = parser.parse_args()
    train(arguments.stage, arguments.resume, arguments.device)
