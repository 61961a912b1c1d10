"""Training of a bf16 model in two processes: Muon for matrices and kernels, AdamW for the rest, fp32 master weights.

Muon (Jordan et al. 2024) replaces the momentum matrix by its nearest semi-orthogonal one, with five Newton-Schulz
steps. On these small, badly conditioned video convolutions it needs 80 steps for what AdamW does not reach in 300.
`torch.optim.Muon` updates one 2-D parameter at a time; here equal shapes share one batched product.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
BLOCK_ROWS = 256


@dataclass(frozen=True)
class Plan:
    """The settings of a training run.

    falls: pairs (end, over). The learning rates fall linearly to zero at step `end`, over the `over` steps before it.
        The lowest rate counts, and the first `end` that is reached ends the run.
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
        """Steps of the whole run."""
        return min(end for end, _ in self.falls)

    def rate(self, step: int) -> float:
        """Returns the factor on both learning rates at a step."""
        left = min((end - step) / over for end, over in self.falls)
        return min(1.0, (step + 1) / self.warmup, max(0.01, left))


def orthogonalise(batch: torch.Tensor) -> torch.Tensor:
    """Returns nearly semi-orthogonal matrices close to `[k, rows, columns]`; their singular values are 0.7 to 1.2."""
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
    """Orthogonalised momentum. A kernel is a matrix `[out, in * taps]`, in blocks of at most `BLOCK_ROWS` rows."""

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
            momenta = [self.state[p].setdefault("momentum", torch.zeros(rows, columns)) for p in params]
            torch._foreach_lerp_(momenta, list(grads.unbind()), 1 - group["momentum"])
            ahead = torch.lerp(grads, torch.stack(momenta), group["momentum"])
            parts = max(1, rows // BLOCK_ROWS) if columns > rows else 1
            update = orthogonalise(ahead.reshape(-1, rows // parts, columns)).reshape(-1, rows, columns)
            step = group["lr"] * 0.2 * max(rows // parts, columns) ** 0.5
            for p, direction in zip(params, update, strict=True):
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction.view_as(p), alpha=-step)


class Trainer:
    """Trains a bf16 `model` through fp32 master weights. Processes share gradients; checkpoints hold all state."""

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
        """Runs backward pass, gradient sharing, clipping and update. Returns the gradient's norm before clipping."""
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
        """Copies master weights or averages into the model."""
        for p, value in zip(self.params, values, strict=True):
            p.copy_(value)

    def averaged(self) -> dict[str, torch.Tensor]:
        """Returns the averaged weights by name, in fp32."""
        return dict(zip(self.names, self.ema, strict=True))

    def save(self, path: Path) -> None:
        """Writes a checkpoint atomically."""
        state = {
            "step": self.step_number,
            "masters": [m.data for m in self.masters],
            "ema": self.ema,
            "averaged": self.averaged(),
            "optimisers": [o.state_dict() for o in self.optimisers],
        }
        part = path.with_suffix(".part")
        torch.save(state, part)
        part.replace(path)

    def resume(self, path: Path) -> None:
        """Continues from a checkpoint."""
        state = torch.load(path)
        self.step_number = state["step"]
        with torch.no_grad():
            for m, e, saved, average in zip(self.masters, self.ema, state["masters"], state["ema"], strict=True):
                m.copy_(saved)
                e.copy_(average)
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.load(self.masters)
