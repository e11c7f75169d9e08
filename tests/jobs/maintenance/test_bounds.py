"""Nothing only grows: what nobody needs any more is given up and deleted."""

import time
from typing import Any

import pytest
from sqlalchemy import text

import database
from billing import settlement
from config.settings import settings
from jobs.lifecycle import bodies, store
from jobs.maintenance import pruning
from jobs.webhook import outbox
from models import webhook
from models.errors import ProviderFailed
from models.job import BodyAt
from tests.job_rows import hold, make_account
from tests.jobs.webhook.outgoing import change, complete, kept

pytestmark = pytest.mark.usefixtures("stored")

DAY_SECONDS = 24 * 3600


@pytest.fixture(autouse=True)
def _storage(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    import storage

    monkeypatch.setattr(settings, "var_dir", tmp_path)
    storage.backend.cache_clear()
    yield
    storage.backend.cache_clear()


def count(table: str) -> int:
    query = text(f"SELECT count(*) FROM {table}")
    return int(database.run(lambda connection: connection.execute(query).scalar_one()))


def test_webhooks_are_given_up_after_a_day_even_if_never_tried_and_deleted_after_a_week() -> None:
    account = make_account()
    never_tried, sending, in_time = complete(account), complete(account), complete(account)
    is_overdue = f"expires_at = {time.time() - 1}"
    change(f"UPDATE webhooks SET {is_overdue} WHERE job_id != '{in_time}'")
    change(f"UPDATE webhooks SET next_at = next_at + 60 WHERE job_id = '{sending}'")

    pruning.prune()

    (given_up,), (claimed,), (waiting,) = kept(never_tried), kept(sending), kept(in_time)
    assert (given_up.next_at, given_up.tries) == (None, 0)
    assert given_up.gave_up_at and given_up.last_error == pruning.NEVER_SENT
    assert claimed.next_at and waiting.next_at
    assert outbox.redeliver(given_up.id)
    pruning.prune()
    assert kept(never_tried)[0].next_at is not None

    change("UPDATE webhooks SET next_at = NULL")
    pruning.prune()
    assert count("webhooks") == 3
    change(f"UPDATE webhooks SET created = created - {pruning.WEBHOOK_SECONDS}")
    pruning.prune()
    assert count("webhooks") == 0


def test_an_accounts_waiting_webhooks_are_bounded_and_anothers_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(webhook, "MAX_WAITING", 3)
    monkeypatch.setattr(settlement, "_GIVE_UP_OLDEST", settlement._give_up_oldest())
    account, other = make_account(), make_account()

    first, *rest = [complete(account) for _ in range(4)]
    others = complete(other)

    assert (kept(first)[0].next_at, kept(first)[0].last_error) == (None, settlement.TOO_MANY)
    assert all(kept(job_id)[0].next_at for job_id in [*rest, others])


def test_provider_calls_are_deleted_a_day_after_their_jobs_end() -> None:
    account = make_account()
    ended, running = hold(account), hold(account)
    for job_id in (ended, running):
        change(
            "INSERT INTO shots (job_id, place, images, status, model, provider, upstream_model,"
            f" key_id) VALUES ('{job_id}', 0, 1, 'done', 'm', 'openai', 'm', 'k')"
        )
    claim = store.claim(ended, "a-worker")
    assert claim is not None
    settlement.fail(claim.job, ProviderFailed("No."))

    pruning.prune()
    assert count("shots") == 2
    change(f"UPDATE jobs SET finished_at = finished_at - {DAY_SECONDS}")
    pruning.prune()

    assert count("shots") == count(f"shots WHERE job_id = '{running}'") == 1


def test_a_body_in_storage_is_deleted_if_its_process_died_between_two_steps() -> None:
    account = make_account()
    unheld, ended, queued = "job_of_no_row", hold(account), hold(account)
    for job_id in (unheld, ended, queued):
        bodies.save_to_storage(job_id, b"{}")
    claim = store.claim(ended, "a-worker")
    assert claim is not None
    settlement.fail(claim.job, ProviderFailed("No."))

    assert bodies.forget_orphaned() == 0  # They may yet be held for.
    change(f"UPDATE stored_bodies SET created = created - {bodies.ORPHANED_SECONDS}")
    assert bodies.forget_orphaned() == 2

    assert [bodies.load(job_id, BodyAt.STORAGE) for job_id in (unheld, ended)] == [None, None]
    assert bodies.load(queued, BodyAt.STORAGE) == b"{}"
    assert count("stored_bodies") == 1


def test_the_body_of_a_failed_asynchronous_job_is_deleted_after_a_day() -> None:
    account = make_account()
    job_id = hold(account, body=b"{}", body_at=BodyAt.SQL, asynchronous=True)
    claim = store.claim(job_id, "a-worker")
    assert claim is not None
    settlement.fail(claim.job, ProviderFailed("No."))

    pruning.prune()
    assert count("bodies") == 1
    change(f"UPDATE jobs SET finished_at = finished_at - {DAY_SECONDS}")
    pruning.prune()

    assert count("bodies") == 0
