"""Trains a bf16 model in two processes. Muon updates matrices and kernels, AdamW the other weights, both in fp32.

Muon (Jordan et al. 2024) replaces the momentum matrix by the nearest semi-orthogonal matrix, with five Newton-Schulz
steps. On these small, badly conditioned video convolutions it reaches in 80 steps a loss that AdamW does not reach in
300. `torch.optim.Muon` updates one 2-D parameter at a time. Here all parameters of one shape share one batched product.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.utils._pytree import tree_map_only

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
BLOCK_ROWS = 256


@dataclass(frozen=True)
class Plan:
    """The settings of a training run.

    falls: pairs (end, over). For each pair, the learning rates fall linearly to zero at step `end`, during the `over`
        steps before it. At each step the lowest of these rates applies. The smallest `end` ends the run.
    muon: the learning rate of Muon.
    adam: the learning rate of AdamW.
    warmup: the number of first steps in which the learning rates rise linearly.
    weight_decay: the weight decay of Muon.
    ema: the decay per step of the exponential average of the weights.
    clip: the largest norm of the gradient; a larger gradient is scaled down to it.
    """

    falls: tuple[tuple[int, int], ...]
    muon: float
    adam: float
    warmup: int = 40
    weight_decay: float = 0.0
    ema: float = 0.995
    clip: float = 1.0

    @property
    def steps(self) -> int:
        """The number of steps of the whole run."""
        return min(end for end, _ in self.falls)

    def rate(self, step: int) -> float:
        """Returns the factor on both learning rates at a step: 0.01 to 1, or less during the warm-up."""
        left = min((end - step) / over for end, over in self.falls)
        return min(1.0, (step + 1) / self.warmup, max(0.01, left))


def orthogonalise(batch: torch.Tensor) -> torch.Tensor:
    """Returns approximately the semi-orthogonal matrices nearest to `batch` `[k, rows, columns]`.

    The singular values of the result are 0.7 to 1.2 instead of exactly 1.
    """
    a, b, c = NEWTON_SCHULZ
    x = batch.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.transpose(1, 2).contiguous()
    x = x / (x.float().norm(dim=(1, 2), keepdim=True) + 1e-7).bfloat16()
    for _ in range(5):
        gram = torch.bmm(x, x.transpose(1, 2))
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.transpose(1, 2) if tall else x).float()


class Muon(torch.optim.Optimizer):
    """The Muon optimiser, which steps along the orthogonalised momentum.

    A kernel counts as a matrix `[out, in * taps]`. A wide matrix is orthogonalised in blocks of `BLOCK_ROWS` rows.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": 0.9, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Updates every parameter that has a gradient."""
        group = self.param_groups[0]
        shapes: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
        for p in group["params"]:
            if p.grad is not None:
                shapes[p.shape[0], p[0].numel()].append(p)
        for (rows, columns), params in shapes.items():
            grads = torch.stack([p.grad.reshape(rows, columns) for p in params if p.grad is not None])
            momenta = [
                self.state[p].setdefault("momentum", torch.zeros_like(g)) for p, g in zip(params, grads, strict=True)
            ]
            torch._foreach_lerp_(momenta, list(grads.unbind()), 1 - group["momentum"])
            ahead = torch.lerp(grads, torch.stack(momenta), group["momentum"])
            parts = max(1, rows // BLOCK_ROWS) if columns > rows else 1
            update = orthogonalise(ahead.reshape(-1, rows // parts, columns)).reshape(-1, rows, columns)
            step = group["lr"] * 0.2 * max(rows // parts, columns) ** 0.5
            for p, direction in zip(params, update, strict=True):
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction.view_as(p), alpha=-step)


def write(state: dict[str, Any], path: Path) -> None:
    """Writes a checkpoint, which any device can read. The file is complete or unchanged, even if the process is
    killed."""
    part = path.with_suffix(".part")
    torch.save(tree_map_only(torch.Tensor, torch.Tensor.cpu, state), part)
    part.replace(path)


class Trainer:
    """Trains a bf16 model. The optimisers update fp32 master weights, which are copied into the model after each step.

    All processes average their gradients. A checkpoint holds all state that is needed to continue.

    is_matrix: a function of a parameter's name and the parameter. It returns True if Muon trains the parameter, False
        if AdamW does.
    """

    def __init__(self, model: nn.Module, plan: Plan, is_matrix: Callable[[str, nn.Parameter], bool]) -> None:
        self.plan = plan
        self.step_number = 0
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.names = [name for name, _ in named]
        self.params = [p for _, p in named]
        self.masters = [
            nn.Parameter(p.detach().float().clone(memory_format=torch.contiguous_format)) for p in self.params
        ]
        self.ema = [p.detach().clone() for p in self.masters]
        matrices = [m for (n, p), m in zip(named, self.masters, strict=True) if is_matrix(n, p)]
        others = [m for (n, p), m in zip(named, self.masters, strict=True) if not is_matrix(n, p)]
        self.optimisers: list[torch.optim.Optimizer] = [
            Muon(matrices, lr=plan.muon, weight_decay=plan.weight_decay),
            torch.optim.AdamW(others, lr=plan.adam, betas=(0.9, 0.98), weight_decay=0.0, foreach=True),
        ]
        self.rates: tuple[float, ...] = (plan.muon, plan.adam)
        for p in self.params:
            p.data = p.data.bfloat16()

    def step(self, loss: torch.Tensor) -> float:
        """Runs the backward pass and one update. Returns the norm of the averaged gradient before clipping."""
        loss.backward()
        grads = [
            torch.zeros_like(m) if p.grad is None else p.grad.float()
            for p, m in zip(self.params, self.masters, strict=True)
        ]
        if dist.is_initialized():
            flat = torch.cat([g.flatten() for g in grads])
            dist.all_reduce(flat)
            flat /= dist.get_world_size()
            grads = [part.view_as(g) for part, g in zip(flat.split([g.numel() for g in grads]), grads, strict=True)]
        for p, m, g in zip(self.params, self.masters, grads, strict=True):
            m.grad, p.grad = g, None
        norm = float(nn.utils.clip_grad_norm_(self.masters, self.plan.clip))
        factor = self.plan.rate(self.step_number)
        for optimiser, rate in zip(self.optimisers, self.rates, strict=True):
            optimiser.param_groups[0]["lr"] = rate * factor
            optimiser.step()
        self.step_number += 1
        decay = min(self.plan.ema, self.step_number / (self.step_number + 9))
        with torch.no_grad():
            torch._foreach_lerp_(self.ema, [m.data for m in self.masters], 1 - decay)
        self.load(self.masters)
        return norm

    @torch.no_grad()
    def load(self, values: list[Any]) -> None:
        """Copies `values` into the model's parameters: `masters` for training, or `ema` (averages) for evaluation."""
        for p, value in zip(self.params, values, strict=True):
            p.copy_(value)

    def averaged(self) -> dict[str, torch.Tensor]:
        """Returns the exponentially averaged weights by name, in fp32."""
        return dict(zip(self.names, self.ema, strict=True))

    def save(self, path: Path) -> None:
        """Writes a checkpoint."""
        state: dict[str, Any] = {
            "step": self.step_number,
            "masters": [m.data for m in self.masters],
            "ema": self.ema,
            "averaged": self.averaged(),
            "optimisers": [o.state_dict() for o in self.optimisers],
        }
        write(state, path)

    def resume(self, path: Path) -> None:
        """Sets weights, optimisers and step number to those of a checkpoint that `save` wrote."""
        state = torch.load(path)
        self.step_number = state["step"]
        with torch.no_grad():
            for m, e, saved, average in zip(self.masters, self.ema, state["masters"], state["ema"], strict=True):
                m.copy_(saved)
                e.copy_(average)
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.load(self.masters)
