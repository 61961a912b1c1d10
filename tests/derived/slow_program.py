"""A program in place of the one that makes derived files. It notes its start and waits before it answers.

The order may have an error as its argument `error`, which the program then answers.
"""

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
    error = order["arguments"].get("error")
    answer = {"error": "UnsupportedVideo", "message": error} if error else {"facts": {"made": True}}
    print(json.dumps(answer), flush=True)
