"""Images are decoded two at a time, in real threads."""

import threading
from pathlib import Path
from typing import Any

import gevent
import pytest
from PIL import Image

from jobs.image import normalize
from tests.jobs.image.normalize.studio import Studio, encoded


def test_two_are_in_work_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()
    working, most = [0], [0]
    finish = normalize._normalize

    def watched(*arguments: Any) -> Any:
        threads.add(threading.get_ident())
        working[0] += 1
        most[0] = max(most[0], working[0])
        try:
            return finish(*arguments)
        finally:
            working[0] -= 1

    monkeypatch.setattr(normalize, "_normalize", watched)
    content = encoded(Image.effect_noise((512, 512), 80).convert("RGB"), "PNG")
    studios = [Studio(tmp_path / str(number)) for number in range(6)]
    for studio in studios:
        studio.source.parent.mkdir()

    jobs = [gevent.spawn(studio.finish, content, "256x256") for studio in studios]
    gevent.joinall(jobs, raise_error=True)

    assert most == [2]
    assert threading.get_ident() not in threads
    assert len({studio.target.read_bytes() for studio in studios}) == 1
