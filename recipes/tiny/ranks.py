"""Two training processes of one thread each, started by `torchrun --standalone --nproc-per-node 2`."""

import os
from pathlib import Path

import torch
import torch.distributed as dist


def start() -> tuple[int, int]:
    """Joins the other processes, if there are any. Returns this process's rank and the number of processes."""
    torch.set_num_threads(1)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        dist.init_process_group("gloo")
        return dist.get_rank(), world
    return 0, 1


def finish() -> None:
    """Leaves the process group."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def log(path: Path, line: str) -> None:
    """Prints a line and appends it to a file."""
    print(line, flush=True)
    with path.open("a") as file:
        file.write(line + "\n")


def barrier() -> None:
    """Waits for the other processes."""
    if dist.is_initialized():
        dist.barrier()
