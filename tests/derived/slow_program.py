"""A program in place of the one that makes derived files. It notes its start and waits before it answers."""

import json
import os
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    order = json.load(sys.stdin)
    with Path(order["arguments"]["log"]).open("a") as log:
        log.write(f"{os.getpid()}\n")
    print(json.dumps({"share": 0.5}), flush=True)
    time.sleep(order["arguments"]["seconds"])
    print(json.dumps({"facts": {"made": True}}), flush=True)
