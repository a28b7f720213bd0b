"""Mails to who started a run: when it ends, and when it pauses itself."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator

import pytest
from django.conf import global_settings
from django.contrib.auth.models import User
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend
from pytest_django import Settings

from tests import pictures
from tests.conftest import MakeAsset, StartWorker
from tests.runs import start_run, work
from tests.waiting import wait_for
from thumbnails.models import ImageAsset, Run
from thumbnails.upkeep.reports import run_mail
from thumbnails.upkeep.runs import starting

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada(staff: User) -> User:
    staff.email = "ada@example.org"
    staff.save()
    return staff


def pause(run: Run) -> None:
    assert Run.objects.move(run.pk, Run.State.PAUSED, pause_reason="The disk is away.")


def resume(run: Run, *, by: User | None = None) -> None:
    assert Run.objects.move(run.pk, Run.State.RUNNING, by=by)


def sent() -> list[str]:
    """The subjects of the mails that are due now, and are sent by this."""
    before = len(mail.outbox)
    for _ in range(3):
        run_mail.send_next()
    return [str(message.subject) for message in mail.outbox[before:]]


def test_done__is_mailed_once_with_counts_and_the_reports_address(
    make_asset: MakeAsset, ada: User, settings: Settings
) -> None:
    settings.THUMBNAIL_SITE_URL = "https://images.example.org"
    make_asset()
    make_asset(pictures.truncated())
    work(run := start_run(by=ada, leased=True))
    assert sent() == [f"{run} is done, 1 failed"]
    (message,) = mail.outbox
    assert message.to == ["ada@example.org"]
    assert "Of 2 images: 1 rendered, 1 failed (1 unreadable)." in message.body
    assert f"https://images.example.org/admin/thumbnails/run/{run.pk}/report/" in message.body
    assert sent() == []


def test_pause__is_mailed_again_only_after_somebody_has_resumed_the_run(
    make_asset: MakeAsset, ada: User
) -> None:
    make_asset()
    run = start_run(by=ada, leased=True)
    pause(run)
    assert sent() == [f"{run} is paused"]
    assert "The disk is away." in mail.outbox[0].body
    resume(run)
    pause(run)
    assert sent() == []
    resume(run, by=ada)
    pause(run)
    assert sent() == [f"{run} is paused"]


@pytest.mark.parametrize("why", ["a command's", "no address", "inactive", "no mail", "cancelled"])
def test_nothing__is_mailed(make_asset: MakeAsset, ada: User, settings: Settings, why: str) -> None:
    make_asset()
    if why == "no mail":
        settings.EMAIL_BACKEND = global_settings.EMAIL_BACKEND
    User.objects.update(email="" if why == "no address" else ada.email, is_active=why != "inactive")
    run = start_run(by=None if why == "a command's" else ada, leased=True)
    if why == "cancelled":
        assert Run.objects.move(run.pk, Run.State.CANCELLED, by=ada)
    else:
        work(run)
        assert run.state == Run.State.DONE
    assert not run.events.filter(mail_due=True).exists()


def test_nothing__is_mailed_of_a_run_over_no_images(ada: User) -> None:
    run = starting.start(
        Run.Kind.REGENERATE,
        ImageAsset.objects.all(),
        origin=Run.Origin.API,
        scope_text="all",
        by=ada,
        even_empty=True,
    )
    assert run.state == Run.State.DONE
    assert sent() == []


class Failing(BaseEmailBackend):
    def send_messages(self, email_messages: object) -> int:
        raise ConnectionRefusedError("no server")


def test_failure__is_logged_and_not_tried_again(
    make_asset: MakeAsset, ada: User, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.EMAIL_BACKEND = f"{__name__}.Failing"
    make_asset()
    work(run := start_run(by=ada, leased=True))
    run_mail.send_next()
    assert f"The mail of {run} to ada@example.org cannot be sent" in caplog.text
    assert not run.events.filter(mail_due=True).exists()


class Mailbox:
    """An SMTP server (RFC 5321) on loopback that keeps what it is handed."""

    def __init__(self) -> None:
        self.mails: list[str] = []
        mails = self.mails

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(b"220 ready\r\n")
                for line in self.rfile:
                    if line.upper().startswith(b"DATA"):
                        self.wfile.write(b"354 go on\r\n")
                        mails.append(b"".join(iter(self.rfile.readline, b".\r\n")).decode())
                    self.wfile.write(b"250 ok\r\n")

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    box = Mailbox()
    thread = threading.Thread(target=box.server.serve_forever, daemon=True)
    thread.start()
    yield box
    box.server.shutdown()
    box.server.server_close()
    thread.join()


@pytest.mark.django_db(transaction=True)
def test_worker__hands_mails_to_the_server_of_email_url(
    make_asset: MakeAsset, ada: User, worker: StartWorker, mailbox: Mailbox
) -> None:
    make_asset()
    work(run := start_run(by=ada, leased=True))
    worker(EMAIL_URL=mailbox.url, EMAIL_FROM="images@example.org")
    wait_for(lambda: mailbox.mails, "the mail")
    (text,) = mailbox.mails
    assert f"Subject: {run} is done" in text
    assert "From: images@example.org" in text
    assert "To: ada@example.org" in text
