"""Reports in the log that stored bytes are missing or damaged, each loss once."""

import logging
from functools import lru_cache

log = logging.getLogger(__name__)

MOST_REMEMBERED = 1000
"""The number of losses that are remembered. Only a loss that is no longer remembered is logged again."""


@lru_cache(maxsize=MOST_REMEMBERED)
def report_lost(sentence: str) -> None:
    """Logs `sentence` as an error, unless this process has logged it before.

    sentence: says which bytes are missing or damaged. It must be the same at each report of the same loss.
    """
    log.error("%s", sentence)
