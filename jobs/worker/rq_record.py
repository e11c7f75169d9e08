"""What a worker believes of RQ's records in Redis: which of our own functions runs a job.

Whoever reaches Redis can write there what they like. So a record only chooses from a fixed table:
no name from Redis is imported, and RQ itself, with its callbacks, webhooks and dependencies, never
reads the record.
"""

import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import orjson

#: A function that runs a job, by its id.
Run = Callable[[str], Any]

#: Ids that RQ accepts.
_JOB_ID = re.compile(rb"[A-Za-z0-9_-]{1,255}")
#: A record's data are a function's name and a job's id.
MAX_DATA_BYTES = 1024


def read_id(entry: bytes) -> str | None:
    """Return the job id that an entry of a queue is; None if it is none."""
    return entry.decode() if _JOB_ID.fullmatch(entry) else None


def find_function(
    job_id: str, record: Mapping[bytes, bytes], functions: Mapping[str, Run]
) -> Run | None:
    """Return the one of `functions` that RQ's record of a job names; None if it names no such.

    It has to be called with the job's own id, and with nothing else.
    """
    try:
        name, instance, arguments, options = orjson.loads(_unpack(record[b"data"]))
    except (KeyError, TypeError, ValueError, zlib.error):
        return None
    if not isinstance(name, str) or (instance, arguments, options) != (None, [job_id], {}):
        return None
    return functions.get(name)


def _unpack(data: bytes) -> bytes:
    """Return a record's data, which RQ compresses, up to `MAX_DATA_BYTES` of them."""
    return zlib.decompressobj().decompress(data, MAX_DATA_BYTES)
