"""Two training processes of one thread each; `torchrun --standalone --nproc-per-node 2` starts them."""

import os
from pathlib import Path

import torch
import torch.distributed as dist


def start() -> tuple[int, int]:
    """Join the other processes, if any; returns this one's rank and their number."""
    torch.set_num_threads(1)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        dist.init_process_group("gloo")
        return dist.get_rank(), world
    return 0, 1


def finish() -> None:
    """Leave together."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def log(path: Path, line: str) -> None:
    """Print a line and keep it."""
    print(line, flush=True)
    with path.open("a") as file:
        file.write(line + "\n")


def barrier() -> None:
    """Wait for the others."""
    if dist.is_initialized():
        dist.barrier()
