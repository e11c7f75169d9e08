"""The log of a job's stream in Redis: all that was published, for whoever missed some of it.

While the job runs it is a Redis Stream of its messages; an entry's id is `attempt-last`, so Redis
itself refuses what an attempt says once a later one has begun. When the job has ended it is one
compressed value, kept for five minutes.
"""

import time
import zlib
from collections.abc import Iterator
from typing import Any, cast

import redis

from config.redis import connection
from config.settings import settings
from jobs.streaming.messages import EVENT_END, Events, Source, channel
from models.errors import StreamLogGone, Unavailable

#: A log is kept this long after its job's end.
KEPT_SECONDS = 300
#: The log of a job that runs outlives it by this, whatever happens to its worker.
SPARE_SECONDS = 600
#: Of a long log, so much is in memory at a time.
PIECE_BYTES = 64 * 1024
BATCH_ENTRIES = 32

#: KEYS: the log, the job's channel. ARGV: the entry's id, the message, seconds the log is kept.
#: Appends and publishes, both or neither. Returns 0 where a later entry is there.
APPEND = """
local added = redis.pcall('XADD', KEYS[1], ARGV[1], 'm', ARGV[2])
if type(added) == 'table' and added.err then
    if string.find(added.err, 'smaller', 1, true) then return 0 end
    return added
end
if redis.call('TTL', KEYS[1]) < 0 then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
redis.call('PUBLISH', KEYS[2], ARGV[2])
return 1
"""

#: KEYS: the log. ARGV: the id before an attempt's first entry, seconds the log is kept. Returns
#: how much earlier attempts have said; where that is nothing, they cannot say anything any more.
_BEGIN = """
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if newest and newest[2][2] ~= '' then return 1 end
redis.call('XADD', KEYS[1], ARGV[1], 'm', '')
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 0
"""

#: KEYS: the compressed log, the log, all compressed logs by time, their bytes. ARGV: the log's
#: name and size in that list, the value, now, seconds it is kept, the most bytes of all together.
_FINISH = """
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[4])
redis.call('DEL', KEYS[2])
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])
local total = redis.call('INCRBY', KEYS[4], #ARGV[2])
while true do
    local oldest = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
    local expired = oldest[2] and tonumber(oldest[2]) < ARGV[3] - ARGV[4]
    if not oldest[1] or not (expired or total > tonumber(ARGV[5])) then return total end
    local name, size = string.match(oldest[1], '^(.*) (%d+)$')
    redis.call('ZREM', KEYS[3], oldest[1])
    redis.call('DEL', name)
    total = redis.call('DECRBY', KEYS[4], size)
end
"""


def _key(job_id: str) -> str:
    return f"likedo:stream:{job_id}"


def _ended_key(job_id: str) -> str:
    return f"likedo:log:{job_id}"


def kept_seconds() -> int:
    """Return how long the log of a job that runs is kept."""
    return int(settings.job_timeout_seconds) + SPARE_SECONDS


def append_arguments(job_id: str, events: Events) -> list[Any]:
    """Return the keys and arguments with which `APPEND` appends and publishes `events`."""
    entry = f"{events.attempt}-{events.last}"
    return [2, _key(job_id), channel(job_id), entry, events.encode(), kept_seconds()]


def trim_command(job_id: str, attempt: int, first: int) -> list[Any]:
    """Return the command that drops the events before `first`."""
    return ["XTRIM", _key(job_id), "MINID", f"{attempt}-{first}"]


def begin(job_id: str, attempt: int) -> bool:
    """Let no attempt before `attempt` say anything from now on. False where one has already."""
    said = connection().eval(_BEGIN, 1, _key(job_id), f"{attempt}-0", str(kept_seconds()))
    return not said


def last_number(job_id: str) -> int | None:
    """Return the number of the last event of a job that has not ended; None where it said none."""
    said = [entry.decode() for entry, fields in _newest(job_id) if fields[b"m"]]
    return int(said[0].partition("-")[2]) if said else None


def _newest(job_id: str) -> list[Any]:
    return cast("list[Any]", connection().xrevrange(_key(job_id), count=1))


def finish(pipeline: "redis.client.Pipeline", job_id: str, whole: Events) -> None:
    """Replace the log of a job that has ended by one value, with `pipeline`."""
    value = zlib.compress(whole.encode(), 1)
    pipeline.eval(
        _FINISH,
        4,
        *(_ended_key(job_id), _key(job_id), "likedo:logs", "likedo:logs:bytes"),
        *(f"{_ended_key(job_id)} {len(value)}", value, str(time.time())),
        *(str(KEPT_SECONDS), str(settings.stream_log_bytes)),
    )


def read(job_id: str, number: int) -> Iterator[Events]:
    """Yield what follows the event `number`, up to what there is now, in pieces.

    Raises `StreamLogGone` where the next event is not kept any more, and `Unavailable` where Redis
    does not answer.
    """
    for events in _pieces(job_id, number):
        following = events.after(number)
        if following is None:
            continue
        if following.first > number + 1:
            raise StreamLogGone(
                f"What follows event {number} of job {job_id} is not kept any more."
            )
        number = following.last
        yield following


def _pieces(job_id: str, number: int) -> Iterator[Events]:
    try:
        whole = _whole(job_id)
        if whole is None:
            yield from _entries(job_id, number)
            # Of a job that ended meanwhile, the entries are gone, perhaps before they were read.
            whole = _whole(job_id)
        if whole is not None:
            yield from _unpack(whole)
    except redis.RedisError as error:
        raise Unavailable("The stream cannot be read just now. Try again.") from error


def _whole(job_id: str) -> bytes | None:
    """Return the compressed log of a job that has ended; None where it is not kept, or not yet."""
    return cast("bytes | None", connection().get(_ended_key(job_id)))


def _entries(job_id: str, number: int) -> Iterator[Events]:
    """Yield the entries of a job that runs, from the one that has what follows `number`."""
    newest = _newest(job_id)
    if not newest:
        return
    attempt = newest[0][0].decode().partition("-")[0]
    start = f"({attempt}-{number}"
    while entries := cast(
        "list[Any]", connection().xrange(_key(job_id), min=start, count=BATCH_ENTRIES)
    ):
        for _, fields in entries:
            if fields[b"m"]:
                yield Events.decode(fields[b"m"])
        start = f"({entries[-1][0].decode()}"


def _unpack(value: bytes) -> Iterator[Events]:
    """Yield a compressed log piece by piece, so that a slow reader keeps it compressed."""
    unpacker = zlib.decompressobj()
    said = unpacker.decompress(value, PIECE_BYTES)
    head, _, said = said.partition(b"\n")
    attempt, first, _, source = head.split(b" ", 3)
    number = int(first)
    while True:
        cut = said.rfind(EVENT_END) + len(EVENT_END)
        whole = said[:cut] if cut > 1 else b""
        if whole:
            last = number + whole.count(EVENT_END) - 1
            yield Events(int(attempt), number, last, Source.decode(source), whole)
            number, said = last + 1, said[cut:]
        more = unpacker.decompress(unpacker.unconsumed_tail, PIECE_BYTES)
        if not more:
            return
        said += more
