"""Mails to who started a run, when it has ended or paused itself."""

import logging
from functools import partial

from django.conf import settings
from django.core.mail import EmailMessage
from django.urls import NoReverseMatch, reverse

from thumbnails import conf
from thumbnails.models import Run, RunEvent
from thumbnails.storage.deadlines import within
from thumbnails.upkeep.reports.run_report import outcomes_text

logger = logging.getLogger(__name__)

SEND_SECONDS = 10.0
"""Time limit for one mail, whatever the server does."""

AGAIN = (
    "The workers try it again by themselves where that may help. There is no further mail of a "
    "pause before a user resumes the run."
)


def send_next() -> None:
    """Send the mail of the oldest event that is due, if there is one. To be called by workers.

    Each is tried once, by one worker: a failure is logged.
    """
    due = RunEvent.objects.filter(mail_due=True).select_related("run__started_by").order_by("pk")
    event = due.first()
    if event is None or not RunEvent.objects.take_mail(event.pk):
        return
    to = event.run.starters_address
    if not to:
        return
    message = EmailMessage(_subject(event), _body(event), settings.DEFAULT_FROM_EMAIL, [to])
    try:
        within(SEND_SECONDS, partial(message.send, fail_silently=False), place="mail")
    except Exception as error:  # noqa: BLE001  of any mail backend
        logger.warning("The mail of %s to %s cannot be sent: %r", event.run, to, error)


def _subject(event: RunEvent) -> str:
    failed = event.run.progress(with_ids=False).failed
    and_failed = f", {failed:,} failed" if failed else ""
    return f"{event.run} is {event.kind}{and_failed}"


def _body(event: RunEvent) -> str:
    run = event.run
    lines = [
        f"{run} ({run.kind}, {run.scope_text}) is {event.kind}.",
        f"Of {run.total:,} images: {outcomes_text(run.progress())}.",
        f"Its report: {_address(run)}",
    ]
    if event.kind == RunEvent.Kind.PAUSED:
        lines[1:1] = [event.detail, AGAIN]
    return "\n\n".join(lines) + "\n"


def _address(run: Run) -> str:
    try:
        path = reverse("admin:thumbnails_run_report", args=[run.pk])
    except NoReverseMatch:  # the project has no admin
        return f"manage.py thumbnail_runs report {run.pk}"
    return f"{conf.current().site_url}{path}"
