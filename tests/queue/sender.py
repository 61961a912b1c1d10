"""A process that sends webhooks until it is killed."""

import threading
from pathlib import Path

from longtake.access.signing import Signer
from longtake.database.connection import connect
from longtake.queue.webhooks import Deliverer
from longtake.settings import Settings


def send_webhooks(url: str, folder: Path) -> None:
    """Sends the webhooks of a database. `folder` has the key with which they are signed."""
    settings = Settings(data_dir=folder, trusted_hosts=("127.0.0.1",), webhook_timeout_s=0.4)
    Deliverer(connect(url), settings, Signer(folder)).start()
    threading.Event().wait()
