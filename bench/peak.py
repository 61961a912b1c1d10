"""Runs a longtake command, then prints its peak memory to standard error: `python -m bench.peak extend ...`."""

import sys

from bench.source_length import peak_kib
from longtake.cli import main

if __name__ == "__main__":
    try:
        main()
    finally:
        print(f"peak KiB {peak_kib()}", file=sys.stderr)
