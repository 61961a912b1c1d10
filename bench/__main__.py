"""Runs all benchmarks one after the other: `python -m bench`."""

from importlib import import_module

BENCHES = (
    "startup",
    "loop",
    "loop_ltx2",
    "adapters",
    "modulation",
    "pipeline",
    "streaming",
    "source_length",
    "own_frames",
    "stages",
    "acceleration",
    "eight_bits",
    "five_extensions",
    "threads",
    "queue",
    "sharing",
    "server",
    "health",
)

if __name__ == "__main__":
    for name in BENCHES:
        print(f"== bench.{name}", flush=True)
        import_module(f"bench.{name}").main()
        print(flush=True)
