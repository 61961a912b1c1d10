"""Measures `longtake --help`. It should take less than 0.5 s.

python -m bench.startup
"""

import subprocess
import sys
from pathlib import Path

from bench.timing import in_turn, ratio, show

LONGTAKE = Path(sys.executable).with_name("longtake")


def main() -> None:
    def run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True)

    timings = in_turn(5, help=lambda: run(str(LONGTAKE), "--help"), python=lambda: run(sys.executable, "-c", "pass"))
    show("longtake --help (aim: under 0.5 s)", timings)
    print(f"  against a bare Python start: {ratio(timings, 'help', 'python'):.1f}x")


if __name__ == "__main__":
    main()
