"""Connects the training processes, which `torchrun --standalone --nproc-per-node 2` starts. Each has one thread.

A single process trains alone. On a graphics card (`--device cuda`) one process is enough.
"""

import argparse
import os
from pathlib import Path

import torch
import torch.distributed as dist


def parser(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser of a training stage's arguments, with the option that all stages have."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--device", type=torch.device, default="cpu", help="where to train, such as cuda; default: cpu")
    return made


def start() -> tuple[int, int]:
    """Joins the group of training processes, if there are several. Returns this process's rank and their number."""
    torch.set_num_threads(1)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        dist.init_process_group("gloo")
        return dist.get_rank(), world
    return 0, 1


def finish() -> None:
    """Waits for the other processes, and leaves their group."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def log(path: Path, line: str) -> None:
    """Prints a line and appends it to a file."""
    print(line, flush=True)
    with path.open("a") as file:
        file.write(line + "\n")


def barrier() -> None:
    """Waits until all other processes have called this function too."""
    if dist.is_initialized():
        dist.barrier()
