"""Large answers from a server: in little memory, ended at any time, on a disk that may be full."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import JobCancelled, ProviderFailed, Unavailable
from net import answer as net_answer
from net import http
from net.call import Call
from providers.wire import files, spooling
from providers.wire.spooling import LONG_BYTES
from tests.providers.wire.images.spooled import LARGE, LONG, MEMORY_BYTES, kept
from tests.upstream import ROOT, Upstream


def test_an_answer_may_be_larger_than_others(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(net_answer, "MAX_ANSWER_BYTES", 1000)
    upstream.script(default={"json": [LONG]})

    with http.stream(Call(20), upstream.url + "/chat/completions", {}, {}) as answer:
        assert kept(spooling.read("vendor", answer, tmp_path)[0]) == LARGE

    monkeypatch.setattr(spooling, "MAX_ANSWER_BYTES", len(LONG))
    with (
        pytest.raises(ProviderFailed, match="too large"),
        http.stream(Call(20), upstream.url + "/chat/completions", {}, {}) as answer,
    ):
        spooling.read("vendor", answer, tmp_path)


def test_what_broke_off_leaves_no_open_file(upstream: Upstream, tmp_path: Path) -> None:
    """An image that nobody closes would be a warning, which is an error here."""
    upstream.script({"json": [LONG], "cut": len(LONG) - 100})

    with (
        pytest.raises(ProviderFailed, match="broke off"),
        http.stream(Call(20), upstream.url + "/chat/completions", {}, {}) as answer,
    ):
        spooling.read("vendor", answer, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_an_abort_ends_the_reading(upstream: Upstream, tmp_path: Path) -> None:
    reason = JobCancelled("The job was cancelled.")
    upstream.script({"json": [LONG, LONG], "split": len(LONG), "gap": 60})
    call = Call(60)

    with (
        pytest.raises(JobCancelled) as raised,
        http.stream(call, upstream.url + "/chat/completions", {}, {}) as answer,
    ):
        pieces = answer.pieces()
        spooling.parse("vendor", _aborting(call, reason, pieces), tmp_path)

    assert raised.value is reason
    upstream.wait(aborted=1)
    assert list(tmp_path.iterdir()) == []


def _aborting(call: Call, reason: JobCancelled, pieces: Iterator[bytes]) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        yield piece
        size += len(piece)
        if size > LONG_BYTES:
            call.abort(reason)


def test_a_disk_that_takes_nothing_is_no_failure_of_the_provider(
    upstream: Upstream, tmp_path: Path
) -> None:
    upstream.script({"json": [LONG]})

    with (
        pytest.raises(Unavailable),
        http.stream(Call(20), upstream.url + "/chat/completions", {}, {}) as answer,
    ):
        spooling.read("vendor", answer, tmp_path / "missing")


def test_a_file_is_gone_where_its_making_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), files.new_file(tmp_path) as file:
        file.write(b"a")
        raise ZeroDivisionError

    assert list(tmp_path.iterdir()) == []


def test_large_answers_take_little_memory() -> None:
    """16 answers of four images each, side by side as a worker reads them."""
    done = subprocess.run(
        [sys.executable, "-c", SIXTEEN], cwd=ROOT, capture_output=True, text=True, timeout=120
    )

    assert done.stderr == ""
    assert int(done.stdout) < MEMORY_BYTES


SIXTEEN = """
import tempfile, tracemalloc
from itertools import zip_longest
from pathlib import Path
from providers.wire import spooling

def pieces():
    yield b'{"data": ['
    for place in range(4):
        yield b'{"b64_json": "' if place == 0 else b', {"b64_json": "'
        for _ in range(32):
            yield b"QUJD" * 16384
        yield b'"}'
    yield b"]}"

def steps(folder):
    reader = spooling._Reader("vendor", folder)
    for piece in pieces():
        reader.feed(piece)
        yield
    found = reader.end()["data"]
    assert [image["b64_json"].path.stat().st_size for image in found] == [3 * 2**19] * 4
    for image in found:
        image["b64_json"].path.unlink()

tracemalloc.start()
with tempfile.TemporaryDirectory() as folder:
    for _ in zip_longest(*[steps(Path(folder)) for _ in range(16)]):
        pass
print(tracemalloc.get_traced_memory()[1])
"""
