import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Event

import pytest

from cli.local import supervisor
from cli.local.supervisor import Child, CrashLoop, Log, Supervisor

#: Says when it has begun, and then waits until it is told to end.
PATIENT = "import signal; print('begun', flush=True); signal.pause()"


class Heard(Log):
    """A log that can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: SimpleQueue[str] = SimpleQueue()

    def _print(self, text: str) -> None:
        self.lines.put(text)

    def wait_for(self, part: str) -> str:
        while part not in (line := self.lines.get(timeout=30)):
            pass
        return line


@pytest.fixture
def crew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    monkeypatch.setattr(supervisor, "BACKOFF_SECONDS", 0.001)
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    yield Supervisor(Heard(), lock)
    os.close(lock)


def child(name: str, code: str) -> Child:
    return Child(name, [sys.executable, "-c", code], dict(os.environ))


def heard(crew: Supervisor) -> Heard:
    assert isinstance(crew.log, Heard)
    return crew.log


def test_each_line_has_the_name_of_its_process(crew: Supervisor) -> None:
    patient = child("patient", PATIENT)

    crew.start(patient)

    assert "patient | " in heard(crew).wait_for("begun")
    crew.stop(patient)


def test_a_process_is_out_of_reach_of_the_terminals_ctrl_c(crew: Supervisor) -> None:
    leader = child("leader", f"import os; print(os.getsid(0) == os.getpid()); {PATIENT}")

    crew.start(leader)

    heard(crew).wait_for("True")
    crew.stop(leader)


def test_a_process_that_dies_is_started_again(crew: Supervisor) -> None:
    patient = child("patient", PATIENT)
    crew.start(patient)
    heard(crew).wait_for("begun")
    assert patient.process is not None
    first = patient.process.pid

    os.kill(first, signal.SIGKILL)
    crew.when(lambda: "begun" in heard(crew).wait_for("begun"), crew.request_stop)
    crew.keep_running()

    assert patient.process.pid != first
    crew.stop(patient)


def test_a_process_that_keeps_dying_ends_it_all_with_its_last_words(crew: Supervisor) -> None:
    crew.start(child("broken", "print('famous last words'); exit(3)"))

    with pytest.raises(CrashLoop, match=r"broken keeps dying \(exit status 3\)") as caught:
        crew.keep_running()

    assert "famous last words" in str(caught.value)


def test_a_process_that_will_not_end_is_made_to(
    crew: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 0.05)
    deaf = child("deaf", f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {PATIENT}")
    crew.start(deaf)
    heard(crew).wait_for("begun")

    crew.stop(deaf)

    assert deaf.how_it_ended() == "signal SIGKILL"


def test_a_process_that_never_started_is_stopped_without_ado(crew: Supervisor) -> None:
    crew.stop(child("unborn", PATIENT))


def test_what_is_asked_for_happens_once_it_is_ready(crew: Supervisor) -> None:
    answers = iter([False, False, True])
    crew.when(lambda: next(answers), crew.request_stop)

    crew.keep_running()

    assert list(answers) == []


def test_nobody_is_waited_for_any_more_once_it_stops(crew: Supervisor) -> None:
    asked = Event()

    def never() -> bool:
        asked.set()
        return False

    crew.when(never, lambda: pytest.fail("It was never ready."))
    assert asked.wait(timeout=30)

    crew.request_stop()
    crew.keep_running()


def test_a_reader_of_the_log_that_left_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody_reads(text: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("click.echo", nobody_reads)

    Log().write("web", "a line")
