"""Proxies and certificates that the environment names."""

import socket
import ssl
import threading
from pathlib import Path

import pytest

from models.errors import ProviderFailed
from net import connection as net_connection
from net import http
from net.call import Call
from tests.net.asking import PATH, port_of, post
from tests.upstream import Upstream


def test_a_proxy_of_the_environment_is_used(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", upstream.url)
    monkeypatch.setenv("NO_PROXY", "")
    net_connection.close_idle_connections()

    response = http.post(Call(20), f"http://provider.invalid{PATH}", {}, {})

    assert response.status == 200
    assert upstream.calls()[0]["target"] == f"http://provider.invalid{PATH}"
    net_connection.close_idle_connections()


def test_no_proxy_is_honoured(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    net_connection.close_idle_connections()

    assert post(upstream).status == 200
    net_connection.close_idle_connections()


def serve_once(listener: socket.socket, files: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    plain, _ = listener.accept()
    try:
        with context.wrap_socket(plain, server_side=True) as connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            connection.recv(65536)
    except OSError:
        plain.close()


@pytest.mark.parametrize("trusted", [True, False])
def test_a_certificate_counts_if_the_bundle_of_the_environment_has_it(
    silent: socket.socket,
    certificate: tuple[Path, Path],
    trusted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net_connection.close_idle_connections()
    if trusted:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    server = threading.Thread(target=serve_once, args=(silent, certificate))
    server.start()

    try:
        response = http.post(Call(20), f"https://127.0.0.1:{port_of(silent)}/", {}, {})
    except ProviderFailed as error:
        assert not trusted
        assert "secure connection" in error.message
    else:
        assert trusted
        assert response.content == b"{}"
    finally:
        net_connection.close_idle_connections()
        server.join()
