"""The real server with quick workers, which need no model.

    python -m tests.contract.server <data folder> [settings as JSON]

It prints its ports as one line of JSON and serves until it is terminated.
"""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from longtake.database.migrate import open_database
from longtake.service import logs, server, tls
from longtake.service.server import Address
from longtake.settings import settings
from longtake.worker.slots import Slots
from tests.service.serving import OLD

WORKER = (sys.executable, str(Path(__file__).with_name("quick_worker.py")))
NARROW = OLD
"""The endpoint whose pool has one slot."""


def main(folder: str, overrides: str = "{}") -> None:
    defaults: dict[str, Any] = {
        "data_dir": Path(folder),
        "slots": ("cpu", "cpu", "cpu@narrow"),
        "pools": {NARROW: "narrow"},
    }
    chosen = settings(**defaults | json.loads(overrides))

    def print_ports(address: Address) -> None:
        ports = {"port": address.port, "tls_port": address.tls_port, "tunnel_port": address.tunnel_port}
        print(json.dumps(ports), flush=True)

    logs.setup(chosen)
    vars(server)["Slots"] = partial(Slots, command=WORKER)
    server.run(
        chosen, open_database(chosen), Address("127.0.0.1", 0, 0, 0), tls.prepare(chosen.data_dir / "tls"), print_ports
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
