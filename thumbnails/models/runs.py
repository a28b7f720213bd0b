"""Runs and their chunks: scope, state, leases and outcomes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast
from uuid import UUID

from django.conf import settings
from django.db import models, transaction
from django.db.models import Exists, F, OuterRef, Q, Sum
from django.db.models.functions import Now
from django.utils import timezone

from thumbnails import conf
from thumbnails.exceptions import Reason
from thumbnails.models.assets import Outcome
from thumbnails.models.outcomes import pack
from thumbnails.models.results import Result
from thumbnails.storage.roots import NAME_LENGTH as ROOT_LENGTH

if TYPE_CHECKING:
    from django.contrib.auth.models import User

LEASE = timedelta(seconds=15)
"""How long a chunk belongs to the process that claimed it, and a run to the command that works on
it, from the last heartbeat: four heartbeat intervals. Leases use the database's clock only, since
those of hosts differ."""


RETRY_AFTER = timedelta(seconds=60)
"""When the workers resume a run that paused itself."""

REASON_LENGTH = 300

LATELY = timedelta(seconds=60)
"""The period over which a run's rate is measured."""


class RunQuerySet(models.QuerySet["Run"]):
    def move(self, run_id: int, to: "Run.State", *, by: "User | None" = None, **also: Any) -> bool:
        """Change the state and log that. Returns False, changing nothing, if that is illegal."""
        if to in Run.OVER:
            also = {"pause_reason": "", **also, "finished_at": timezone.now(), "resume_at": None}
        elif to == Run.State.RUNNING:
            also |= {"finished_at": None, "pause_reason": "", "resume_at": None}
        legal = self.filter(pk=run_id, state__in=Run.TRANSITIONS[to])
        with transaction.atomic():
            moved = bool(legal.update(state=to, **also))
            if moved and to == Run.State.RUNNING:
                self.reach_again(run_id)
            if moved:
                resumed = to == Run.State.RUNNING
                RunEvent.objects.create(
                    run_id=run_id,
                    kind=RunEvent.Kind.RESUMED if resumed else RunEvent.Kind(to.value),
                    detail=also.get("pause_reason", ""),
                    by=by,
                    mail_due=RunEvent.objects.is_to_be_mailed(run_id, to),
                )
        return moved

    def reach_again(self, run_id: int) -> None:
        """Try all roots again. To be called in a transaction."""
        Chunk.objects.filter(run=run_id).undo_failures()
        RunRoot.objects.filter(run=run_id).update(away="")

    def running(self) -> Self:
        return self.filter(state=Run.State.RUNNING)

    def over(self) -> Self:
        """Those that are done or cancelled: others cannot be deleted."""
        return self.filter(state__in=Run.OVER)

    def unleased(self) -> Self:
        """Running and left to the workers: no command has a lease on them."""
        return self.running().exclude(lease_until__gte=Now())

    def of_recipe(self, digest: str) -> Self:
        """Those that a process with that recipe may work on, which includes all purges."""
        return self.filter(Q(recipe=digest) | Q(kind=Run.Kind.PURGE))

    def due_again(self) -> Self:
        """Paused by themselves, and due to be resumed."""
        return self.filter(state=Run.State.PAUSED, resume_at__lte=Now())

    def renew_lease(self, run_id: int) -> bool:
        """A command's heartbeat. Returns False if the run is not running any more."""
        return bool(self.running().filter(pk=run_id).update(lease_until=Now() + LEASE))

    def settle(self, run_id: int) -> bool:
        """Mark the run done if all its chunks are, and pause it if the rest is in roots that are
        away and no process works on them any more; what failed there is left to do. Returns True
        for the one caller that did."""
        chunks = Chunk.objects.filter(run=run_id)
        with transaction.atomic():
            # Here, since processes save failures of a root until they see that it is away.
            chunks.unreachable().undo_failures()
        unfinished = chunks.filter(finished_at=None)
        if unfinished.reachable().exists() or unfinished.leased().exists():
            return False
        if not unfinished.exists():
            return self.move(run_id, Run.State.DONE)
        reason = RunRoot.objects.filter(run=run_id).why_away()
        return self.move(
            run_id, Run.State.PAUSED, pause_reason=reason, resume_at=Now() + RETRY_AFTER
        )


class Run(models.Model):
    """A recorded regeneration or purge of many assets, with its scope frozen in chunks."""

    class Kind(models.TextChoices):
        REGENERATE = "regenerate"
        PURGE = "purge"

        @property
        def permission(self) -> str:
            """The permission to start such a run, or to do the same to one image."""
            return f"thumbnails.{self.value}_thumbnails"

    class Origin(models.TextChoices):
        """The entry point that started it."""

        ADMIN = "admin"
        COMMAND = "command"
        API = "api"
        WORKER = "worker"
        """By itself, after a change of recipe."""

    class State(models.TextChoices):
        RUNNING = "running"
        PAUSED = "paused"
        CANCELLED = "cancelled"
        DONE = "done"

    # The states that each state can be reached from. Done is final: its counts are the report.
    TRANSITIONS: ClassVar[dict[State, tuple[State, ...]]] = {
        State.RUNNING: (State.PAUSED, State.CANCELLED),
        State.PAUSED: (State.RUNNING,),
        State.CANCELLED: (State.RUNNING, State.PAUSED),
        State.DONE: (State.RUNNING,),
    }
    OVER: ClassVar = (State.DONE, State.CANCELLED)

    kind = models.CharField(max_length=10, choices=Kind.choices)
    state = models.CharField(max_length=10, choices=State.choices, default=State.RUNNING)
    force = models.BooleanField("render fresh ones too", default=False)
    scope = models.JSONField(default=dict)
    """The selection as requested; the assets themselves are in the chunks."""
    scope_text = models.CharField("scope", max_length=300)
    total = models.PositiveIntegerField(default=0)
    recipe = models.CharField(max_length=16)
    note = models.CharField(max_length=300, blank=True)
    pause_reason = models.CharField(max_length=REASON_LENGTH, blank=True)
    started_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    origin = models.CharField(max_length=10, choices=Origin.choices)
    # The column has its name of the first version.
    lease_until = models.DateTimeField(db_column="attended_until", null=True)
    """The lease of a command that works on it; without one the queue's workers do."""
    rate = models.FloatField("images a second at most", null=True)
    next_slot_at = models.DateTimeField(null=True)
    """With a rate: when any worker may begin the next image."""
    resume_at = models.DateTimeField(null=True)
    """When the workers resume a run that paused itself."""
    created_at = models.DateTimeField(default=timezone.now, db_index=True)
    finished_at = models.DateTimeField(null=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-pk"]

    def __str__(self) -> str:
        return f"Run {self.pk}"

    LARGE = 500
    """With more assets a run has the lower priority: smaller runs overtake it, and it is niced."""

    @property
    def permission(self) -> str:
        """The permission to start such a run, or to act on it."""
        return self.Kind(self.kind).permission

    @property
    def starters_address(self) -> str:
        """E-mail address of who started it; empty if there is none, or the user may not log in."""
        user = self.started_by
        if user is None or not user.is_active:
            return ""
        # Not every user model has addresses.
        return str(getattr(user, user.get_email_field_name(), "") or "")

    @property
    def is_large(self) -> bool:
        return self.total > self.LARGE

    @property
    def is_leased(self) -> bool:
        """Whether a command works on it. A query, if one ever did."""
        leased = Run.objects.filter(pk=self.pk, lease_until__gte=Now())
        return self.lease_until is not None and leased.exists()

    def newer_over_same(self) -> "Run | None":
        """Returns the newest later run over the same selection, which continues this one."""
        later = Run.objects.filter(pk__gt=self.pk, kind=self.kind, force=self.force)
        return later.filter(scope=self.scope, scope_text=self.scope_text).first()

    @property
    def is_over(self) -> bool:
        """Whether it is done or cancelled."""
        return self.state in self.OVER

    def progress(self, *, with_ids: bool = True) -> "Progress":
        """Returns the sum of its chunks so far, as `progress_of`."""
        return progress_of([self], with_ids=with_ids)[self.pk]

    def rate_of(self, done: int, lately: int) -> float | None:
        """Returns images per second, from the numbers done in total and within LATELY; None if
        unknown."""
        if self.state not in (self.State.RUNNING, self.State.DONE):
            return None
        seconds = ((self.finished_at or timezone.now()) - self.created_at).total_seconds()
        if self.finished_at is None and seconds > LATELY.total_seconds():
            done, seconds = lately, LATELY.total_seconds()
        return done / seconds if done and seconds > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Counts of assets by outcome."""

    total: int
    rendered: int = 0
    fresh: int = 0
    purged: int = 0
    failed: int = 0
    accepted: int = 0
    failures: dict[str, list[int]] = field(default_factory=dict)
    """The failed assets' ids by reason."""
    rate: float | None = None
    """Images per second: within LATELY while it runs, overall once it is done; None if unknown."""

    @property
    def outcomes(self) -> dict[str, int]:
        return {outcome.value: getattr(self, outcome.value) for outcome in Outcome}

    @property
    def done(self) -> int:
        return sum(self.outcomes.values())

    @property
    def percent(self) -> int:
        """Rounded down: 100 means all."""
        return 100 if self.total == 0 else self.done * 100 // self.total

    @property
    def seconds_left(self) -> float | None:
        """At this rate; None if unknown."""
        return (self.total - self.done) / self.rate if self.rate else None


def progress_of(runs: Sequence[Run], *, with_ids: bool = True) -> dict[int, Progress]:
    """Returns the progress of these runs by the run's id.

    Two queries in total; one without the failed ids, which may be many.
    """
    lately = Q(finished_at__gte=timezone.now() - LATELY)
    sums = {outcome.value: Sum(outcome.value) for outcome in Outcome}
    chunks = Chunk.objects.filter(run__in=runs).order_by()
    rows = chunks.values("run").annotate(**sums, lately=Sum("position", default=0, filter=lately))
    counted: dict[int, dict[str, int]] = {row["run"]: cast(dict[str, int], row) for row in rows}
    failures: dict[int, dict[str, list[int]]] = {}
    if with_ids:
        for run_id, ids_by_reason in chunks.filter(failed__gt=0).values_list("run", "failures"):
            of_run = failures.setdefault(run_id, {})
            for reason, ids in ids_by_reason.items():
                of_run.setdefault(reason, []).extend(ids)
    return {
        run.pk: _progress(run, counted.get(run.pk, {}), failures.get(run.pk, {})) for run in runs
    }


def _progress(run: Run, counted: dict[str, int], failures: dict[str, list[int]]) -> Progress:
    outcomes = {outcome.value: counted.get(outcome.value, 0) for outcome in Outcome}
    return Progress(
        total=run.total,
        failures={reason: sorted(ids) for reason, ids in failures.items()},
        rate=run.rate_of(sum(outcomes.values()), counted.get("lately", 0)),
        **outcomes,
    )


OF_STORAGE = (Reason.STORAGE_ERROR, Reason.SOURCE_MISSING)
"""The reasons for a failure that may be the storage's, not the image's."""
UNLEASED = Q(lease_until=None) | Q(lease_until__lt=Now())


class RunRootQuerySet(models.QuerySet["RunRoot"]):
    def away(self) -> Self:
        return self.exclude(away="")

    def why_away(self) -> str:
        """Returns the reasons of all that are away, for a run's `pause_reason`."""
        reasons = list(self.away().order_by("root").values_list("away", flat=True))
        # Each with its beginning, which names the root.
        return " ".join(reason[: REASON_LENGTH // len(reasons) - 1] for reason in reasons)

    def save_one(self, run_id: int, root: str, **values: Any) -> None:
        """Make or change a row in one statement."""
        self.bulk_create(
            [RunRoot(run_id=run_id, root=root, **values)],
            update_conflicts=True,
            unique_fields=["run", "root"],
            update_fields=list(values),
        )


class RunRoot(models.Model):
    """What a run has found out about a root of originals; made when something fails there."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="roots")
    root = models.CharField(max_length=ROOT_LENGTH)
    """As in Chunk."""
    storage_errors = models.PositiveIntegerField(default=0)
    """Current number of consecutive storage errors."""
    missing_in_a_row = models.PositiveIntegerField(default=0)
    """Current number of consecutive missing originals."""
    ignores_missing = models.BooleanField(default=False)
    """Resumed in spite of missing originals: they do not pause it again."""
    away = models.CharField(max_length=REASON_LENGTH, blank=True)
    """Why the chunks of this root are left undone, until the run is resumed; empty if they are
    not."""

    objects = RunRootQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "root"], name="root_of_run"),
        ]

    def __str__(self) -> str:
        return f"root {self.root!r} of run {self.run_id}"


class ChunkQuerySet(models.QuerySet["Chunk"]):
    def reachable(self) -> Self:
        """Those whose originals are not in a root that is away."""
        return self.exclude(Exists(self._away()))

    def unreachable(self) -> Self:
        return self.filter(Exists(self._away()))

    @staticmethod
    def _away() -> "RunRootQuerySet":
        return RunRoot.objects.away().filter(run=OuterRef("run"), root=OuterRef("root"))

    def leased(self) -> Self:
        """Those that a process works on."""
        return self.exclude(UNLEASED)

    def open(self) -> Self:
        """Not finished, not leased by a process, and reachable."""
        return self.reachable().filter(UNLEASED, finished_at=None)

    def claim(self, chunk_id: int, token: UUID, *, recipe: str) -> "Chunk | None":
        """Lease the chunk. Returns None if it is finished, taken or not reachable, or if its run
        is not running or has another recipe.

        One conditional UPDATE, which may be retried with the same token if the answer to its
        commit was lost. Only the conditions of run and root are in subqueries: PostgreSQL
        would check the chunk's own there against the state before a concurrent claim.
        """
        running = Run.objects.running().of_recipe(recipe).values("pk")
        free = UNLEASED | Q(lease_token=token)
        wanted = self.reachable().filter(free, pk=chunk_id, finished_at=None, run__in=running)
        claimed = wanted.update(
            lease_token=token, lease_until=Now() + LEASE, claims=F("claims") + 1
        )
        return self.select_related("run").get(pk=chunk_id) if claimed else None

    def undo_failures(self) -> None:
        """Reset the assets that failed because of the storage, in chunks that no process works on:
        they may succeed later."""
        for chunk in self.filter(UNLEASED, failed__gt=0).select_for_update():
            ids = {i for reason in OF_STORAGE for i in chunk.failures.pop(reason.value, [])}
            if not ids:
                continue
            # Finished ones come first: `position` counts them.
            done = [i for i in chunk.asset_ids[: chunk.position] if i not in ids]
            left = chunk.asset_ids[chunk.position :]
            chunk.asset_ids = [*done, *left, *sorted(ids)]
            chunk.position = len(done)
            chunk.failed -= len(ids)
            chunk.finished_at = None
            chunk.save(update_fields=["asset_ids", "position", "failed", "failures", "finished_at"])

    def open_abandoned(self) -> int:
        """Open and log the chunks whose lease has expired. Returns how many."""
        opened = 0
        for chunk in self.filter(finished_at=None, lease_until__lt=Now()):
            with transaction.atomic():
                again = self.filter(pk=chunk.pk, lease_until__lt=Now(), finished_at=None)
                if not again.update(lease_until=None):
                    continue
                opened += 1
                RunEvent.objects.create(
                    run_id=chunk.run_id,
                    kind=RunEvent.Kind.WORKER_LOST,
                    detail=f"It worked on chunk {chunk.number}; another worker continues with it.",
                )
        return opened


class Chunk(models.Model):
    """A slice of a run: the unit of claim and retry, and one job of the queue."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="chunks")
    number = models.PositiveIntegerField()
    root = models.CharField(max_length=ROOT_LENGTH, default="", db_default="")
    """The root that all its originals are in: empty for the main folder, and in a purge."""
    asset_ids = models.JSONField()
    """The slice of the frozen scope: ids in ascending order, except for those that are retried."""
    position = models.PositiveIntegerField(default=0)
    """How many of `asset_ids` are done and counted, from the start."""
    lease_token = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)
    claims = models.PositiveIntegerField(default=0)
    finished_at = models.DateTimeField(null=True)

    rendered = models.PositiveIntegerField(default=0)
    fresh = models.PositiveIntegerField(default=0)
    purged = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    accepted = models.PositiveIntegerField(default=0, db_default=0)
    failures = models.JSONField(default=dict)
    """The failed assets' ids by reason."""
    outcomes = models.BinaryField(default=b"", db_default=b"")
    """What became of each asset, as `thumbnails.models.outcomes` packs it. A former release counts
    assets without appending them."""

    objects = ChunkQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["run", "number"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "number"], name="chunk_number_in_run"),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["run"], condition=Q(finished_at=None), name="chunk_unfinished_of_run"
            ),
        ]

    def __str__(self) -> str:
        return f"chunk {self.number} of run {self.run_id}"

    def lock(self) -> "Chunk | None":
        """Returns the current row, locked for the transaction; None if the lease is lost."""
        return self._mine().select_for_update().first()

    def record(self, results: Sequence[Result]) -> None:
        """Count the results of the next assets of the slice, and renew the lease.

        To be called on the row that `lock` returned, in the same transaction.
        """
        for outcome, number in Counter(result.outcome for result in results).items():
            setattr(self, outcome.value, getattr(self, outcome.value) + number)
        for result in results:
            if result.reason is not None and result.outcome == Outcome.FAILED:
                self.failures.setdefault(result.reason.value, []).append(result.asset_id)
        self.outcomes = bytes(self.outcomes) + pack(results)
        self.position += len(results)
        finished = self.position == len(self.asset_ids)
        self._mine().update(
            position=self.position,
            failures=self.failures,
            outcomes=self.outcomes,
            finished_at=timezone.now() if finished else None,
            lease_until=None if finished else Now() + LEASE,
            **{outcome.value: getattr(self, outcome.value) for outcome in Outcome},
        )

    def renew(self) -> bool:
        """Renew the lease. Returns False if it is lost."""
        return bool(self._mine().update(lease_until=Now() + LEASE))

    def release(self) -> None:
        """End the lease, so that another process can continue."""
        self._mine().update(lease_until=None)

    def _mine(self) -> "ChunkQuerySet":
        """This chunk, if it is still leased to this process."""
        return Chunk.objects.filter(
            pk=self.pk, lease_token=self.lease_token, finished_at=None
        ).exclude(lease_until=None)


class RunRequest(models.Model):
    """A request with an idempotency key, and its run.

    See draft-ietf-httpapi-idempotency-key-header.
    """

    KEPT = timedelta(days=7)
    """After that, the key counts as new."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    digest = models.CharField(max_length=64)
    """Of the request: the same key for a different one is an error."""
    run = models.ForeignKey(Run, models.CASCADE, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "key"], name="run_request_key_of_user"),
        ]

    def __str__(self) -> str:
        return f"request {self.key}"


class RunEventQuerySet(models.QuerySet["RunEvent"]):
    def is_to_be_mailed(self, run_id: int, state: Run.State) -> bool:
        """Whether the run's next event, of reaching that state, is to be mailed.

        A run that pauses and is tried again every minute is mailed once until a user resumes it.
        """
        if state not in (Run.State.DONE, Run.State.PAUSED) or not conf.sends_mail():
            return False
        run = Run.objects.select_related("started_by").get(pk=run_id)
        if run.total == 0 or not run.starters_address:
            return False
        earlier = self.filter(run=run_id)
        if state == Run.State.PAUSED:
            resumed = earlier.filter(kind=RunEvent.Kind.RESUMED).exclude(by=None).order_by("-pk")
            last = resumed.values_list("pk", flat=True).first() or 0
            return not earlier.filter(kind=RunEvent.Kind.PAUSED, pk__gt=last).exists()
        return True

    def take_mail(self, event_id: int) -> bool:
        """Returns True for the one caller that is to send the event's mail."""
        return bool(self.filter(pk=event_id, mail_due=True).update(mail_due=False))


class RunEvent(models.Model):
    """An entry in a run's log."""

    class Kind(models.TextChoices):
        STARTED = "started"
        PAUSED = "paused"
        RESUMED = "resumed"
        CANCELLED = "cancelled"
        DONE = "done"
        WORKER_LOST = "worker_lost"
        ALSO_WANTED = "also_wanted"
        ROOT_AWAY = "root_away"

    run = models.ForeignKey(Run, models.CASCADE, related_name="events")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    detail = models.CharField(max_length=300, blank=True)
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    at = models.DateTimeField(default=timezone.now)
    mail_due = models.BooleanField(default=False, db_default=False)
    """Whether a worker has yet to mail it to who started the run."""

    objects = RunEventQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["pk"]
        indexes: ClassVar = [
            models.Index(fields=["id"], condition=Q(mail_due=True), name="event_to_be_mailed")
        ]

    def __str__(self) -> str:
        return f"{self.run_id} {self.kind}"
