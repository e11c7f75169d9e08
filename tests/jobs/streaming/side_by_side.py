"""Streams read side by side."""

from concurrent.futures import ThreadPoolExecutor

from tests.events import STREAMED, Stream, stream
from tests.stack import Account, Stack, wait_until


def begun(
    url: str, account: Account, count: int, events: int, body: object = STREAMED
) -> list[Stream]:
    """Ask for streams side by side, and read the first events of each."""
    with ThreadPoolExecutor(count) as threads:
        answers = list(threads.map(lambda _: stream(url, account.key, body), range(count)))
    for answer in answers:
        assert len(answer.events(most=events)) == events
    return answers


def rest_of(answers: list[Stream]) -> list[list[bytes]]:
    """Read streams side by side to their ends."""
    with ThreadPoolExecutor(len(answers)) as threads:
        return list(threads.map(Stream.events, answers))


def nothing_is_held(stack: Stack, account: Account, balance: int) -> None:
    wait_until(lambda: stack.unfinished() == 0, "every job has ended")
    assert account.standing() == (balance, 0)
