"""An image job's answer as callers get it."""

import gevent
import orjson

from jobs.kinds.image_answer import LINKS_PER_TURN, render


def test_others_run_while_thousands_of_links_are_made() -> None:
    turns: list[int] = []
    data = [{"media": f"{number}.png"} for number in range(3 * LINKS_PER_TURN)]
    body = orjson.dumps({"created": 1, "data": data, "forms": ["url"]})

    def take_turns() -> None:
        while True:
            turns.append(1)
            gevent.sleep(0)

    other = gevent.spawn(take_turns)
    length, pieces = render(body, "http://here")
    other.kill()

    assert len(turns) >= 2
    assert len(b"".join(pieces)) == length
