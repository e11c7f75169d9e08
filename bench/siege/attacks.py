"""Attacks on one address, paced: `python -m bench.siege.attacks URL --keys A,B --seconds 60`.

Two free accounts and a client without a key send everything that is known to hurt, at most
`--rate` requests a second, on loopback only, and stop by themselves. Prints how often each attack
was made and which statuses it got; 0 is a connection that was closed.
"""

# ruff: noqa: E402  # gevent patches modules before others import them
from gevent import monkey

monkey.patch_all()

import argparse
import json
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from urllib.parse import urlsplit

import gevent

MIB = 1024 * 1024
#: The attackers' own: what they send wrong is not held against the other callers.
ADDRESS = "127.0.0.2"
#: No connection of an attacker is held longer than this.
MAX_SECONDS = 20
CHAT = "/v1/chat/completions"

Attack = Callable[["Target"], int]


class Target:
    """The address under attack, and the key of the attacker, who may have none."""

    def __init__(self, host: str, port: int, key: str, number: int) -> None:
        self.host, self.port, self.key = host, port, key
        #: Different for each attack, where equal ones would be too kind.
        self.number = number

    def connect(self) -> socket.socket:
        source = (ADDRESS, 0)
        return socket.create_connection((self.host, self.port), MAX_SECONDS, source)

    def head(self, method: str, path: str, *headers: str, key: bool = True) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}", *headers]
        if key:
            lines.append(f"Authorization: Bearer {self.key}")
        return "\r\n".join([*lines, "", ""]).encode()

    def send(self, method: str, path: str, body: bytes = b"", *headers: str) -> int:
        """Send a request and return its status; 0 if there is none."""
        length = f"Content-Length: {len(body)}"
        head = self.head(method, path, length, "Content-Type: application/json", *headers)
        with self.connect() as connection:
            connection.sendall(head + body)
            return status(connection)

    def chat(self, body: bytes, *headers: str) -> int:
        return self.send("POST", CHAT, body, *headers)


def status(connection: socket.socket) -> int:
    line = connection.recv(4096).split(b"\r\n", 1)[0].split()
    return int(line[1]) if len(line) > 1 and line[1].isdigit() else 0


# ---- Freezing ------------------------------------------------------------------------------------


def _tiny_chunks(target: Target, path: str, key: bool) -> int:
    with target.connect() as connection:
        connection.sendall(target.head("POST", path, "Transfer-Encoding: chunked", key=key))
        for _ in range(20):
            connection.sendall(b"1\r\nx\r\n" * 10_000)
        connection.sendall(b"0\r\n\r\n")
        return status(connection)


def tiny_chunks_without_a_key(target: Target) -> int:
    return _tiny_chunks(target, CHAT, key=False)


def tiny_chunks_with_a_key(target: Target) -> int:
    return _tiny_chunks(target, CHAT, key=True)


def tiny_chunks_to_nowhere(target: Target) -> int:
    return _tiny_chunks(target, "/nowhere", key=False)


def wrong_messages(target: Target) -> int:
    messages = b",".join([b'{"role":"nobody","content":[1]}'] * 200_000)
    return target.chat(b'{"model":"gpt-4","messages":[' + messages + b"]}")


def tiny_messages(target: Target) -> int:
    messages = b",".join([b'{"role":"user","content":"a"}'] * 200_000)
    return target.chat(b'{"model":"gpt-4","messages":[' + messages + b"]}")


def empty_lists(target: Target) -> int:
    return target.chat(b'{"model":"gpt-4","messages":[' + b"[]," * 2_000_000 + b"[]]}")


def deep_lists(target: Target) -> int:
    return target.chat(b'{"model":"gpt-4","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


def estimates(target: Target) -> int:
    body = b'{"model":"gpt-4","messages":[{"role":"user","content":"%s"}]}' % (b"a, " * MIB)
    return target.send("POST", "/api/v1/ai/estimate", body)


# ---- Filling -------------------------------------------------------------------------------------


def slow_body(target: Target) -> int:
    with target.connect() as connection:
        connection.sendall(target.head("POST", CHAT, f"Content-Length: {20 * MIB}"))
        for _ in range(MAX_SECONDS):
            connection.sendall(b"x" * 100)
            gevent.sleep(1)
        return 0


def slow_head(target: Target) -> int:
    with target.connect() as connection:
        for _ in range(MAX_SECONDS):
            connection.sendall(b"GET ")
            gevent.sleep(1)
        return 0


def half_an_upload(target: Target) -> int:
    content_type = "Content-Type: multipart/form-data; boundary=b"
    with target.connect() as connection:
        head = target.head("POST", "/v1/files", f"Content-Length: {50 * MIB}", content_type)
        connection.sendall(head + b"--b\r\n" + b"x" * MIB)
        gevent.sleep(5)
        return 0


def uploads(target: Target) -> int:
    line = b'{"custom_id":"%d","method":"POST","url":"/v1/chat/completions","body":{}}\n'
    content = b"".join(line % number for number in range(20_000))
    form = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    form += b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    form += content + b"\r\n--b--\r\n"
    length = f"Content-Length: {len(form)}"
    content_type = "Content-Type: multipart/form-data; boundary=b"
    with target.connect() as connection:
        connection.sendall(target.head("POST", "/v1/files", length, content_type) + form)
        return status(connection)


def waiting_bodies(target: Target) -> int:
    messages = [{"role": "user", "content": f"{target.number}" * MIB}]
    body = {"model": "gpt-4", "messages": messages, "background": True}
    return target.chat(json.dumps(body).encode())


def many_images_of_others(target: Target) -> int:
    url = {"url": f"http://{target.number}.images.example/large.png"}
    parts = [{"type": "image_url", "image_url": url}] * 25
    body = {"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": parts}]}
    return target.chat(json.dumps(body).encode())


def webhooks_to_nobody(target: Target) -> int:
    body = {
        "model": "gpt-4",
        "messages": [{"role": "user", "content": "Hello"}],
        "background": True,
        "webhook_url": f"https://{target.number}.receivers.example/hook",
    }
    return target.chat(json.dumps(body).encode())


def abandoned_calls(target: Target) -> int:
    body = b'{"model":"gpt-4","messages":[{"role":"user","content":"Hello"}]}'
    with target.connect() as connection:
        length = f"Content-Length: {len(body)}"
        connection.sendall(target.head("POST", CHAT, length) + body)
        return 0


# ---- Getting in ----------------------------------------------------------------------------------


def bogus_keys(target: Target) -> int:
    stranger = Target(target.host, target.port, f"lk-{target.number:032x}", target.number)
    return stranger.send("GET", "/v1/models")


def readiness(target: Target) -> int:
    return target.send("GET", "/readyz")


def readers_of_nothing(target: Target) -> int:
    return target.send("GET", f"/v1/jobs/job_{target.number:032x}/events")


def forged_headers(target: Target) -> int:
    forged = ("SCRIPT_NAME: /admin", "X-Forwarded-For: 10.0.0.1", "X-Forwarded-Proto: https")
    return target.send("GET", "/v1/credits\x1b[2J".replace("\x1b", "%1b"), b"", *forged)


ATTACKS: tuple[Attack, ...] = (
    tiny_chunks_without_a_key,
    tiny_chunks_with_a_key,
    tiny_chunks_to_nowhere,
    wrong_messages,
    tiny_messages,
    empty_lists,
    deep_lists,
    estimates,
    slow_body,
    slow_head,
    half_an_upload,
    uploads,
    waiting_bodies,
    many_images_of_others,
    webhooks_to_nobody,
    abandoned_calls,
    bogus_keys,
    readiness,
    readers_of_nothing,
    forged_headers,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--keys", required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=50)
    options = parser.parse_args()
    parts = urlsplit(options.url)
    if parts.hostname != "127.0.0.1":
        parser.error("only 127.0.0.1 is attacked")

    keys = options.keys.split(",")
    statuses: dict[str, Counter[int]] = defaultdict(Counter)
    ends = time.monotonic() + options.seconds
    number = 0
    greenlets = []
    while (now := time.monotonic()) < ends:
        attack = ATTACKS[number % len(ATTACKS)]
        target = Target(parts.hostname, parts.port or 80, keys[number % len(keys)], number)
        greenlets.append(gevent.spawn(_make, attack, target, statuses))
        number += 1
        gevent.sleep(max(0, now + 1 / options.rate - time.monotonic()))
    gevent.joinall(greenlets, timeout=MAX_SECONDS)
    print(json.dumps({"requests": number, "statuses": statuses}))


def _make(attack: Attack, target: Target, statuses: dict[str, Counter[int]]) -> None:
    try:
        outcome = attack(target)
    except OSError:
        outcome = 0  # The connection was closed under the attacker.
    statuses[attack.__name__][outcome] += 1


if __name__ == "__main__":
    main()
