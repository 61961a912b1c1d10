"""All benches, one after the other: `python -m bench`."""

from bench import acceleration, loop, loop_ltx2, modulation, pipeline, source_length, stages, startup, streaming

if __name__ == "__main__":
    for bench in (startup, loop, loop_ltx2, modulation, pipeline, streaming, source_length, stages, acceleration):
        print(f"== {bench.__name__}", flush=True)
        bench.main()
        print(flush=True)
