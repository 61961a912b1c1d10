"""Previews of running requests in the database: who asks for them, and the newest one of each request.

One server may receive a client's question for a preview while another server carries out the request. The first server
adds 1 to a count in the database for each question. The second one stores previews as long as this count grows. Times
in place of counts would not work, because the clocks of the two servers may differ.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from longtake.database.connection import reading
from longtake.database.tables import previews, requests
from longtake.queue.requests import RequestRow


@dataclass(frozen=True)
class StoredPreview:
    """The newest preview of a running request.

    `picture`: an animated WebP.
    `step`, `steps`: the number of finished steps of the current pass (run through the sampling steps), and the number
        of all its steps.
    `window`, `windows`: the number of the current window, from 1, and the number of all windows. A window is a group of
        frames that are sampled together.
    """

    picture: bytes
    step: int
    steps: int
    window: int
    windows: int


def ask(engine: sa.Engine, request_id: str) -> None:
    """Adds 1 to the number of questions for previews of a request. Does nothing if the request has ended.

    The server that carries out the request then stores previews for some seconds.
    """
    counted = sa.update(previews).where(previews.c.request_id == request_id).values(asked=previews.c.asked + 1)
    open_request = sa.select(requests.c.id, sa.literal(1)).where(
        requests.c.id == request_id, requests.c.completed_at.is_(None)
    )
    try:
        with engine.begin() as connection:
            if connection.execute(counted).rowcount == 0:
                connection.execute(sa.insert(previews).from_select(["request_id", "asked"], open_request))
    except sa.exc.IntegrityError:
        pass  # another server has inserted the row in the same moment, and so has counted


def num_questions(engine: sa.Engine, request_id: str) -> int:
    """Returns how often clients have asked for a preview of a request (see `ask`).

    The number is 0 if nobody has asked, or if the request has ended. While it grows, somebody watches the request.
    """
    with reading(engine) as connection:
        asked = connection.scalar(sa.select(previews.c.asked).where(previews.c.request_id == request_id))
    return asked or 0


def store(engine: sa.Engine, row: RequestRow, preview: StoredPreview) -> None:
    """Replaces the preview of the claimed request `row` by a newer one.

    Does nothing if no client has asked for previews of the request, or if it has ended.
    """
    values = {**vars(preview), "attempt": row.attempt}
    with engine.begin() as connection:
        connection.execute(sa.update(previews).where(previews.c.request_id == row.id).values(values))


def newest(engine: sa.Engine, row: RequestRow) -> StoredPreview | None:
    """Returns the newest preview of the present attempt at the running request `row`, or None if there is none."""
    names = ("picture", "step", "steps", "window", "windows")
    with reading(engine) as connection:
        found = connection.execute(
            sa.select(*(previews.c[name] for name in names)).where(
                previews.c.request_id == row.id, previews.c.attempt == row.attempt
            )
        ).first()
    return None if found is None else StoredPreview(bytes(found.picture), *found[1:])


def end(connection: sa.Connection, request_id: str) -> None:
    """Deletes the preview of a request.

    `connection`: a connection whose present transaction ends the request.
    """
    connection.execute(sa.delete(previews).where(previews.c.request_id == request_id))
