"""What is logged is one line for each event, whatever others' text is in it."""

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import exc, text

from database import engine
from tests.stack import ROOT, clean_environment

#: Logs the same hostile text in each way that there is.
PROGRAM = r"""
import logging, sys
import gevent, structlog
from ops import logs

gunicorn = logging.StreamHandler(sys.stdout)  # Its loggers have handlers of their own.
logging.getLogger("gunicorn.error").addHandler(gunicorn)
logging.getLogger("gunicorn.error").propagate = False
logs.configure()
controls = [*range(32), *range(127, 160), 0x2028, 0x2029, 0x202e, 0x2066]
text = "/a" + "".join(map(chr, controls)) + "z"
log = structlog.get_logger()
log.debug("request", path=text, names=[text], error=ValueError(text))
for name in ("gunicorn.error", "rq.worker", "urllib3.connectionpool", "sqlalchemy.pool"):
    logging.getLogger(name).error("refused: %s", text)
try:
    raise ValueError(text)
except ValueError:
    log.exception("bug")
    logging.getLogger("urllib3").exception("failed: %s", text)
print(text.replace("\n", ""), file=sys.stderr)
"""


def test_no_text_of_others_makes_a_line_or_moves_the_cursor(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env=clean_environment() | {"PYTHONPATH": str(ROOT), "LOG_LEVEL": "DEBUG"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=True,
    )

    lines = done.stdout.decode().removesuffix("\n").split("\n")
    assert [line for line in lines if not line.isprintable() and "\t" not in line] == []
    ours = [line for line in lines if line.startswith("level=")]
    assert len(ours) == 2 and all(line.isprintable() for line in ours)
    assert r"\r" in ours[0] and r"\x1b" in ours[0] and r"\u202e" in ours[0]
    # A traceback of a library's has a line of its own, beginning with our word for it.
    others = [line for line in lines if not line.startswith("level=")]
    assert [line.split(" ")[0] for line in others] == [
        "refused:",
        *["ERROR"] * 4,
        "Traceback",
        others[-1].split(" ")[0],
    ]
    assert others[-1].startswith(r"/a\x00")


def test_the_errors_of_the_database_show_no_parameters() -> None:
    made = engine.make_engine("sqlite://")

    with made.begin() as connection, pytest.raises(exc.OperationalError) as raised:
        connection.execute(text("SELECT :key FROM nowhere"), {"key": "a-secret"})

    made.dispose()
    assert "a-secret" not in str(raised.value)
