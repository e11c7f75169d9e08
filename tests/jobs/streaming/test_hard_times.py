"""Streams in hard times: web processes die, connections break, Redis forgets, readers are slow."""

import json
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from bench import processes
from tests.conftest import LONG_ON_POSTGRESQL, ONE_DATABASE
from tests.events import STREAMED, follow, numbered, stream, text_of, value, words
from tests.jobs.streaming.side_by_side import begun, nothing_is_held, rest_of
from tests.stack import Stack, wait_until
from tests.upstream import Upstream, said


@LONG_ON_POSTGRESQL
@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "status", "balance"), [("cancel", "cancelled", 1000), ("finish", "completed", 995)]
)
def test_a_web_processs_sudden_death_ends_its_streams_as_their_callers_wished(
    fresh_stack: Stack, upstream: Upstream, policy: str, status: str, balance: int
) -> None:
    """Those that end with it cost nothing: it was not their callers who left."""
    upstream.script(default=words(150, gap=0.1))
    web, other = fresh_stack.web(), fresh_stack.web()
    fresh_stack.worker()
    account = fresh_stack.account()
    answers = begun(web, account, 5, 3, STREAMED | {"on_disconnect": policy})

    fresh_stack.webs[0].kill()
    for answer in answers:
        answer.close()
    nothing_is_held(fresh_stack, account, balance)

    assert {job["status"] for job in account.jobs()} == {status}
    events = numbered(follow(other, account.key, answers[0].job_id).events())
    assert list(events) == list(range(1, len(events) + 1))
    assert text_of(list(events.values())[:4]).startswith("w0 w1 ")


@ONE_DATABASE
@pytest.mark.slow
def test_a_web_process_told_to_stop_lets_go_on_what_is_to_finish(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(words(230, gap=0.1))
    web, other = fresh_stack.web(), fresh_stack.web()
    fresh_stack.worker()
    account = fresh_stack.account()
    (answer,) = begun(web, account, 1, 2, STREAMED | {"on_disconnect": "finish"})
    reader = follow(other, account.key, answer.job_id)

    fresh_stack.webs[0].terminate()
    *_, last = answer.events()
    events = numbered(reader.events())

    assert f"/jobs/{answer.job_id}/events" in value(last)["error"]["message"]
    assert text_of(list(events.values())[:-1]).endswith("w229 ")
    assert events[max(events)] == b"data: [DONE]\n\n"
    nothing_is_held(fresh_stack, account, balance=999)


@ONE_DATABASE
@pytest.mark.slow
def test_a_web_process_told_to_stop_ends_its_streams_free_of_charge(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(words(20, gap=0.1), words(100_000, gap=0.2))
    web = fresh_stack.web()
    fresh_stack.worker()
    account = fresh_stack.account()
    answers = begun(web, account, 1, 2) + begun(web, account, 1, 2)

    fresh_stack.webs[0].terminate()
    whole, broken = rest_of(answers)

    assert fresh_stack.webs[0].wait() == 0
    assert whole[-1] == b"data: [DONE]\n\n"
    assert value(broken[-1])["error"]["code"] == "unavailable"
    nothing_is_held(fresh_stack, account, balance=999)


@ONE_DATABASE
def test_a_listening_connection_that_keeps_breaking_loses_and_repeats_no_byte(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(default=words(100, gap=0.05))
    web = fresh_stack.web()
    fresh_stack.worker()
    account = fresh_stack.account()
    answers = begun(web, account, count=50, events=2)
    breaker = redis.Redis.from_url(fresh_stack.valkey.url)

    with ThreadPoolExecutor(len(answers)) as threads:
        reading = [threads.submit(answer.events) for answer in answers]
        # More would keep a slow machine from listening for so long that its streams are ended.
        for _ in range(20):
            breaker.client_kill_filter(_type="pubsub")
            wait_until(
                lambda: (
                    len(breaker.pubsub_channels("likedo:job:*"))
                    >= sum(not rest.done() for rest in reading)
                ),
                "every reader listens again",
            )
    breaker.close()

    expected = "".join(f"w{number} " for number in range(1, 100))
    assert {text_of(rest.result()) for rest in reading} == {expected}
    assert {rest.result()[-1] for rest in reading} == {b"data: [DONE]\n\n"}
    nothing_is_held(fresh_stack, account, balance=950)


@ONE_DATABASE
def test_a_redis_that_is_away_for_a_while_costs_no_stream_a_byte(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(default=words(60, gap=0.1))
    web = fresh_stack.web()
    fresh_stack.worker()
    account = fresh_stack.account()
    answers = begun(web, account, count=10, events=5)

    fresh_stack.valkey.process.child.send_signal(signal.SIGSTOP)
    # All that the provider has to say falls into this time, and several looks at the log.
    wait_until(lambda: upstream.counts()["running"] == 0, "the provider has said all")
    fresh_stack.valkey.process.child.send_signal(signal.SIGCONT)
    rests = rest_of(answers)

    expected = "".join(f"w{number} " for number in range(4, 60))
    assert {text_of(rest) for rest in rests} == {expected}
    assert {rest[-1] for rest in rests} == {b"data: [DONE]\n\n"}
    nothing_is_held(fresh_stack, account, balance=990)


@LONG_ON_POSTGRESQL
@pytest.mark.slow
def test_a_stream_that_had_begun_is_not_begun_anew_where_redis_forgot_it(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(words(100_000, gap=0.1))
    web, doomed = fresh_stack.web(), fresh_stack.worker()
    account = fresh_stack.account()
    long = STREAMED | {"messages": [{"role": "user", "content": "x" * 100_000}]}
    (answer,) = begun(web, account, 1, 5, long)
    wait_until(
        lambda: fresh_stack.query("SELECT events FROM jobs")[0][0] == 0, "its row knows of that"
    )

    doomed.kill()
    fresh_stack.valkey.process.kill()
    fresh_stack.valkey.start()
    fresh_stack.worker()
    events = answer.events()

    assert value(events[-1])["error"]["code"] == "unavailable"
    assert "Hello" not in text_of(events[:-1])
    nothing_is_held(fresh_stack, account, balance=1000)


@ONE_DATABASE
def test_a_redis_that_dies_and_forgets_ends_no_stream_quietly(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(default=words(60, gap=0.1))
    web = fresh_stack.web()
    fresh_stack.worker()
    account = fresh_stack.account()
    answers = begun(web, account, count=20, events=5)

    fresh_stack.valkey.process.kill()
    fresh_stack.valkey.start()
    rests = rest_of(answers)

    expected = "".join(f"w{number} " for number in range(4, 60))
    for rest in rests:
        if rest[-1] == b"data: [DONE]\n\n":
            assert text_of(rest) == expected
        else:
            assert value(rest[-1])["error"]["code"] in ("unavailable", "stream_log_gone")
    wait_until(lambda: fresh_stack.unfinished() == 0, "every job has ended")
    assert account.standing()[1] == 0


@ONE_DATABASE
def test_a_slow_reader_is_cut_when_it_falls_out_of_the_log_and_slows_nobody(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    word = "x" * 10_000
    events = [said(role="assistant", content="")] + [said(content=word)] * 3000 + [said("stop")]
    upstream.script({"events": [*events, "[DONE]"]}, words(50, gap=0.02))
    web = fresh_stack.web()
    fresh_stack.worker(stream_log_bytes=1_000_000)
    account = fresh_stack.account()
    slow = socket.create_connection(("127.0.0.1", fresh_stack.ports[0]))
    body = json.dumps(STREAMED | {"on_disconnect": "finish"})
    slow.sendall(
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {account.key}"
        f"\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    assert slow.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
    before = processes.resident_mib(fresh_stack.webs[0].pid)

    quick = stream(web, account.key).events()
    wait_until(lambda: fresh_stack.unfinished() == 0, "both streams have ended")
    grown = processes.resident_mib(fresh_stack.webs[0].pid) - before
    with slow:
        said_last = b""
        while piece := slow.recv(1 << 20):
            said_last = (said_last + piece)[-2000:]

    assert text_of(quick) == "".join(f"w{number} " for number in range(50))
    assert b'"code":"stream_log_gone"' in said_last
    assert b"[DONE]" not in said_last
    # Unbounded, it would have grown by the 30 MB that the slow one did not read.
    assert grown < 25, grown


@pytest.mark.long
@ONE_DATABASE
@pytest.mark.alone
def test_five_hundred_streams_side_by_side_arrive_whole(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script(default=words(20, gap=1))
    web, worker = fresh_stack.web(), fresh_stack.worker()
    account = fresh_stack.account()

    answers = begun(web, account, count=500, events=2)
    rests = rest_of(answers)
    memory = sum(map(processes.resident_mib, (fresh_stack.webs[0].pid, worker.pid)))

    expected = "".join(f"w{number} " for number in range(1, 20))
    assert {text_of(rest) for rest in rests} == {expected}
    assert {rest[-1] for rest in rests} == {b"data: [DONE]\n\n"}
    nothing_is_held(fresh_stack, account, balance=500)
    assert memory < 350
