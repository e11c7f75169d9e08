"""A result that does not come at once: when it is asked for again, and when no more."""

import socket
import threading
from pathlib import Path

import pytest

from models.errors import JobCancelled, ProviderFailed, ProviderTimeout, Unavailable
from net.call import Call
from providers.wire import result_images
from tests.net.untrusted.hosts import CANCELLED, PNG, Names, image
from tests.providers.wire.images.downloads import PUBLIC_BASE, SLOW_RESULTS, download, failure
from tests.upstream import Step, Upstream

BROKEN = [
    pytest.param({"cut": -1}, id="no-answer"),
    pytest.param(image(cut=15), id="cut-short"),
    pytest.param({"raw": "SSH-2.0-OpenSSH\r\n"}, id="no-http"),
    pytest.param({"status": 429, "body": ""}, id="busy"),
    pytest.param({"status": 500, "body": ""}, id="failed"),
    pytest.param({"status": 503, "body": ""}, id="unavailable"),
]


@pytest.mark.parametrize("step", BROKEN)
def test_a_result_is_asked_for_three_times(
    upstream: Upstream, tmp_path: Path, impatient: None, step: Step
) -> None:
    upstream.script(step, step, image())
    assert download(upstream, tmp_path) == PNG
    assert len(list(tmp_path.iterdir())) == 1

    (tmp_path / "other").mkdir()
    upstream.script(step, step, step, image())
    assert type(failure(upstream.url, tmp_path / "other", upstream.url)) is ProviderFailed
    assert upstream.counts()["received"] == 6


@pytest.mark.parametrize("status", [204, 206, 304, 400, 403, 404, 410])
def test_what_will_not_change_is_not_asked_for_again(
    upstream: Upstream, tmp_path: Path, status: int
) -> None:
    upstream.script(default=image(status=status))

    assert type(failure(upstream.url, tmp_path, upstream.url)) is ProviderFailed
    assert upstream.counts()["received"] == 1


def test_a_server_of_results_that_is_not_there_is_a_failure(
    tmp_path: Path, impatient: None
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"

    assert type(failure(url, tmp_path, url)) is ProviderFailed


def test_a_name_that_is_not_found_is_looked_up_again(
    upstream: Upstream, tmp_path: Path, names: Names, impatient: None, local: None
) -> None:
    names.say("files.example", [], ["127.0.0.1"])
    upstream.script(image())

    url = f"http://files.example:{upstream.port}/"
    assert result_images.download(Call(60), url, tmp_path, PUBLIC_BASE).read_bytes() == PNG
    assert names.asked == ["files.example"] * 2


@pytest.mark.parametrize("step", SLOW_RESULTS)
def test_a_result_comes_in_time_or_not_at_all(
    upstream: Upstream, tmp_path: Path, short: None, step: Step
) -> None:
    upstream.script(step)

    assert type(failure(upstream.url, tmp_path, upstream.url)) is ProviderTimeout
    upstream.wait(aborted=1)
    assert upstream.counts()["received"] == 1


def test_all_attempts_at_a_result_are_part_of_the_time(
    upstream: Upstream, tmp_path: Path, short: None, impatient: None
) -> None:
    upstream.script(default={"status": 500, "body": "", "delay": 0.6})

    assert type(failure(upstream.url, tmp_path, upstream.url)) is ProviderTimeout
    assert upstream.counts()["received"] < 3


@pytest.mark.parametrize("step", SLOW_RESULTS)
def test_an_abort_ends_a_download_with_its_reason(
    upstream: Upstream, tmp_path: Path, step: Step
) -> None:
    upstream.script(step)
    call = Call(60)
    threading.Thread(target=lambda: (upstream.wait(received=1), call.abort(CANCELLED))).start()

    with pytest.raises(JobCancelled) as raised:
        download(upstream, tmp_path, call=call)

    assert raised.value is CANCELLED
    upstream.wait(aborted=1)
    assert list(tmp_path.iterdir()) == []


def test_an_abort_ends_the_pause_between_attempts(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_images, "RETRY_PAUSES", (60.0,))
    upstream.script({"status": 500, "body": ""})
    call = Call(60)
    threading.Thread(target=lambda: (upstream.wait(received=1), call.abort(CANCELLED))).start()

    with pytest.raises(JobCancelled):
        download(upstream, tmp_path, call=call)

    assert upstream.counts()["received"] == 1


def test_a_disk_that_takes_no_result_is_not_the_providers_fault(
    upstream: Upstream, tmp_path: Path
) -> None:
    upstream.script(image())

    with pytest.raises(Unavailable):
        result_images.download(Call(60), upstream.url, tmp_path / "missing", upstream.url)

    assert upstream.counts()["received"] == 1
