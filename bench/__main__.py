"""All benches, one after the other: `python -m bench`."""

from bench import loop, pipeline, source_length, startup, streaming

if __name__ == "__main__":
    for bench in (startup, loop, pipeline, streaming, source_length):
        print(f"== {bench.__name__}", flush=True)
        bench.main()
        print(flush=True)
