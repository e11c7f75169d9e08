"""The log of a job's stream in Redis, for readers that missed some of its messages.

While the job runs, the log is a Redis Stream of the published messages. An entry's id is
`attempt-last`, so Redis itself refuses the entries of an attempt once a later one has begun. When
the job has ended, the log is one compressed value, kept for five minutes.
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

#: How long the log is kept after its job has ended.
ENDED_TTL_SECONDS = 300
#: How long the log of a running job outlives the job's deadline, whatever happens to its worker.
MARGIN_SECONDS = 600
#: A long log is read in pieces: this many bytes of a compressed one, this many entries of a stream.
PIECE_BYTES = 64 * 1024
PAGE_ENTRIES = 32

#: KEYS: the log, the job's channel. ARGV: the entry's id, the message, the log's TTL in seconds.
#: Appends and publishes, both or neither. Returns 0 if the log has a later entry.
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

#: KEYS: the log. ARGV: the id before an attempt's first entry, the log's TTL in seconds. Returns 1
#: if an earlier attempt has published events; otherwise 0, and then none of them can any more.
_BEGIN = """
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if newest and newest[2][2] ~= '' then return 1 end
redis.call('XADD', KEYS[1], ARGV[1], 'm', '')
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 0
"""

#: KEYS: the compressed log, the log, all compressed logs by time, their total of bytes. ARGV: the
#: log's name and size in that list, the value, now, its TTL in seconds, the maximum total of bytes.
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


def _ttl_seconds() -> int:
    """Return how long the log of a running job is kept."""
    return int(settings.job_timeout_seconds) + MARGIN_SECONDS


def append_arguments(job_id: str, events: Events) -> list[Any]:
    """Return the keys and arguments with which `APPEND` appends and publishes `events`."""
    entry_id = f"{events.attempt}-{events.last}"
    return [2, _key(job_id), channel(job_id), entry_id, events.encode(), _ttl_seconds()]


def trim_command(job_id: str, attempt: int, first: int) -> list[Any]:
    """Return the command that drops the events before `first`."""
    return ["XTRIM", _key(job_id), "MINID", f"{attempt}-{first}"]


def begin(job_id: str, attempt: int) -> bool:
    """Fence off the attempts before `attempt`; return False if one of them has published events."""
    published = connection().eval(_BEGIN, 1, _key(job_id), f"{attempt}-0", str(_ttl_seconds()))
    return not published


def last_number(job_id: str) -> int | None:
    """Return the number of the last event of a running job; None if it has published none."""
    for entry_id, fields in _newest(job_id):
        if fields[b"m"]:
            return int(entry_id.decode().partition("-")[2])
    return None


def _newest(job_id: str) -> list[Any]:
    return cast("list[Any]", connection().xrevrange(_key(job_id), count=1))


def finish(pipeline: "redis.client.Pipeline", job_id: str, whole: Events) -> None:
    """Replace the log of a job that has ended by one compressed value, with `pipeline`."""
    value = zlib.compress(whole.encode(), 1)
    pipeline.eval(
        _FINISH,
        4,
        *(_ended_key(job_id), _key(job_id), "likedo:logs", "likedo:logs:bytes"),
        *(f"{_ended_key(job_id)} {len(value)}", value, str(time.time())),
        *(str(ENDED_TTL_SECONDS), str(settings.stream_log_bytes)),
    )


def read(job_id: str, number: int) -> Iterator[Events]:
    """Yield the events after event `number` that the log has now, in pieces.

    Raises `StreamLogGone` if the next event is no longer kept, and `Unavailable` if Redis does not
    answer.
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
        compressed = _compressed(job_id)
        if compressed is None:
            yield from _entries(job_id, number)
            # If the job ended meanwhile, its entries are gone, perhaps before they were read.
            compressed = _compressed(job_id)
        if compressed is not None:
            yield from _unpack(compressed)
    except redis.RedisError as error:
        raise Unavailable("The stream cannot be read just now. Try again.") from error


def _compressed(job_id: str) -> bytes | None:
    """Return the compressed log of a job that has ended; None if there is none."""
    return cast("bytes | None", connection().get(_ended_key(job_id)))


def _entries(job_id: str, number: int) -> Iterator[Events]:
    """Yield the entries of a running job's log, beginning with the one that follows `number`."""
    newest = _newest(job_id)
    if not newest:
        return
    attempt = newest[0][0].decode().partition("-")[0]
    start = f"({attempt}-{number}"
    while page := cast(
        "list[Any]", connection().xrange(_key(job_id), min=start, count=PAGE_ENTRIES)
    ):
        for _, fields in page:
            if fields[b"m"]:
                yield Events.decode(fields[b"m"])
        start = f"({page[-1][0].decode()}"


def _unpack(value: bytes) -> Iterator[Events]:
    """Yield a compressed log piece by piece, so that it stays compressed for a slow reader."""
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(value, PIECE_BYTES)
    header, _, data = data.partition(b"\n")
    attempt, first, _, source = header.split(b" ", 3)
    number = int(first)
    while True:
        end = data.rfind(EVENT_END) + len(EVENT_END)
        whole_events = data[:end] if end > 1 else b""
        if whole_events:
            last = number + whole_events.count(EVENT_END) - 1
            yield Events(int(attempt), number, last, Source.decode(source), whole_events)
            number, data = last + 1, data[end:]
        more = unpacker.decompress(unpacker.unconsumed_tail, PIECE_BYTES)
        if not more:
            return
        data += more
