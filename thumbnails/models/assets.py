"""Assets, with the state of their thumbnails as conditions on columns."""

from collections.abc import Iterable
from datetime import date, datetime, time
from pathlib import PurePath
from typing import Any, ClassVar, Self

from django.core.files.storage import Storage
from django.db import models, transaction
from django.db.models import Case, Exists, F, OuterRef, Q, Value, When
from django.db.models.functions import Cast
from django.db.models.lookups import GreaterThanOrEqual, LessThan
from django.utils import timezone

from thumbnails.batching import batched
from thumbnails.exceptions import Reason
from thumbnails.models.addresses import public_path
from thumbnails.models.inserting import insert
from thumbnails.models.recipes import recipe_in_force
from thumbnails.models.sources import Output, Sources, sources_of
from thumbnails.rendering import (
    FACT_LENGTH,
    THUMBNAIL,
    Variant,
    fingerprint_of,
    fit_inside,
)
from thumbnails.storage import originals
from thumbnails.storage.names import name_for

NAME_LENGTH = 500
DETAIL_LENGTH = 300
HISTORY_LENGTH = 8
MEMBERS_AT_ONCE = 5_000


class State(models.TextChoices):
    """State of an asset's thumbnail with respect to the recipe in force and the original."""

    MISSING = "missing"
    FRESH = "fresh"
    STALE = "stale"
    FAILED = "failed"
    ACCEPTED = "accepted"
    """Failed, as staff accept."""

    @property
    def is_failure(self) -> bool:
        """Whether the last attempt failed, accepted or not."""
        return self in (State.FAILED, State.ACCEPTED)


class Outcome(models.TextChoices):
    """Result for one asset of a run."""

    RENDERED = "rendered"
    FRESH = "fresh"
    PURGED = "purged"
    FAILED = "failed"
    ACCEPTED = "accepted"
    """Failed, or was not tried, and staff accept that."""


def originals_storage() -> Storage:
    return originals.storage()


def start_of(day: date) -> datetime:
    """Returns the first moment of a day in the site's time zone."""
    return timezone.make_aware(datetime.combine(day, time.min))


def end_of(day: date) -> datetime:
    """Returns the last moment of a day in the site's time zone."""
    return timezone.make_aware(datetime.combine(day, time.max))


class TrainingSessionQuerySet(models.QuerySet["TrainingSession"]):
    def told_apart(self) -> Self:
        """Shown with their ids where names repeat."""
        same_name = self.model.objects.filter(name=OuterRef("name")).exclude(pk=OuterRef("pk"))
        return self.annotate(name_repeats=Exists(same_name))


class TrainingSession(models.Model):
    """A group of assets. Several may have the same name, and an asset may be in several."""

    name = models.CharField(max_length=200)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = TrainingSessionQuerySet.as_manager()

    name_repeats = False
    """Whether another has the same name; known of those that `told_apart` returns."""

    class Meta:
        ordering: ClassVar = ["name", "pk"]
        indexes: ClassVar = [models.Index(fields=["name", "id"], name="session_by_name")]

    def __str__(self) -> str:
        return f"{self.name} (#{self.pk})" if self.name_repeats else self.name


class ImageAssetQuerySet(models.QuerySet["ImageAsset"]):
    """Assets by the state of their thumbnails."""

    def _made_as_now(self) -> Q:
        return Q(thumbnail_recipe=recipe_in_force().digest, thumbnail_source=F("source_version"))

    def failed_now(self) -> Q:
        """The last attempt failed, with the recipe in force and the current original."""
        return ~Q(thumbnail_error="") & Q(
            thumbnail_error_recipe=recipe_in_force().digest,
            thumbnail_error_source=F("source_version"),
        )

    def _accepted(self) -> Q:
        """As `ImageAsset.accepts` the last attempt's failure."""
        accepted = Q(accepted_source=F("source_version"))
        return accepted & ~Q(thumbnail_error=Reason.STORAGE_ERROR)

    def _in_state(self) -> dict[State, Q]:
        """The condition of each state; an asset is in exactly one."""
        failed, accepted = self.failed_now(), self._accepted()
        has_file = ~Q(thumbnail_path="")
        return {
            State.FAILED: failed & ~accepted,
            State.ACCEPTED: failed & accepted,
            State.MISSING: Q(thumbnail_path="") & ~failed,
            State.FRESH: has_file & self._made_as_now() & ~failed,
            State.STALE: has_file & ~self._made_as_now() & ~failed,
        }

    def in_state(self, *states: State) -> Self:
        conditions = self._in_state()
        wanted = Q(pk__in=[])
        for state in states:
            wanted |= conditions[state]
        return self.filter(wanted)

    def with_state(self) -> Self:
        """Annotated with `current_state`, for queries that load no instances."""
        cases = [
            When(condition, then=Value(state)) for state, condition in self._in_state().items()
        ]
        return self.annotate(current_state=Case(*cases, output_field=models.CharField()))

    def fresh(self) -> Self:
        return self.in_state(State.FRESH)

    def stale(self) -> Self:
        return self.in_state(State.STALE)

    def missing(self) -> Self:
        return self.in_state(State.MISSING)

    def failed(self) -> Self:
        return self.in_state(State.FAILED)

    def acceptable(self) -> Self:
        """Those whose failure staff may accept: a storage's is not the original's fault."""
        return self.failed().exclude(thumbnail_error=Reason.STORAGE_ERROR)

    def not_fresh(self) -> Self:
        """Those that a regeneration renders: missing, stale and failed."""
        return self.in_state(State.MISSING, State.STALE, State.FAILED)

    def failed_for(self, reasons: Iterable[Reason]) -> Self:
        """Those whose last attempt failed for one of these reasons, accepted or not."""
        return self.filter(self.failed_now(), thumbnail_error__in=list(reasons))

    def recipes(self) -> list[str]:
        """Returns the digests of all recipes of thumbnails. One query per recipe."""
        found: list[str] = []
        last = ""
        while True:  # a loose index scan, which PostgreSQL does not do for DISTINCT
            later = self.filter(thumbnail_recipe__gt=last).order_by("thumbnail_recipe")
            last = later.values_list("thumbnail_recipe", flat=True).first() or ""
            if not last:
                return found
            found.append(last)

    def count_by_state(self) -> dict[State, int]:
        """Returns the number of assets in each state."""
        counted = self.aggregate(
            **{state.value: models.Count("pk", filter=q) for state, q in self._in_state().items()}
        )
        return {state: counted[state.value] for state in State}

    def count_by_reason(self, state: State = State.FAILED) -> dict[str, int]:
        """Returns the number of failed assets by reason, or of those with an accepted failure."""
        rows = self.in_state(state).order_by().values_list("thumbnail_error")
        return dict(rows.annotate(models.Count("pk")))

    def count_by_recipe(self, *, besides: str) -> dict[str, int]:
        """Returns the number of thumbnails by recipe, without that one."""
        made = self.exclude(thumbnail_path="").exclude(thumbnail_recipe=besides)
        rows = made.order_by().values_list("thumbnail_recipe")
        return dict(rows.annotate(models.Count("pk")))

    def with_sessions(self) -> Self:
        """With their sessions prefetched, told apart."""
        sessions = TrainingSession.objects.told_apart()
        return self.prefetch_related(models.Prefetch("sessions", queryset=sessions))

    def in_sessions(self, session_ids: Iterable[int]) -> Self:
        """Those in one or more of these sessions, each once."""
        members = SessionImage.objects.filter(session__in=list(session_ids), image=OuterRef("pk"))
        return self.filter(Exists(members))

    def created_from(self, day: date) -> Self:
        return self.filter(created_at__gte=start_of(day))

    def created_to(self, day: date) -> Self:
        """Created on or before that day."""
        return self.filter(created_at__lte=end_of(day))

    def generated_before(self, day: date) -> Self:
        """Whose thumbnail was made before that day began."""
        return self.filter(thumbnail_generated_at__lt=start_of(day))

    def with_megapixels(self, at_least: float | None, below: float | None) -> Self:
        """Whose original has a number of megapixels in that range."""
        return self.filter(self.of_megapixels(at_least, below))

    def of_megapixels(self, at_least: float | None, below: float | None) -> Q:
        """The condition of `with_megapixels`."""
        size = models.BigIntegerField()
        pixels = Cast("width", size) * Cast("height", size)
        found = Q()
        if at_least is not None:
            found &= Q(GreaterThanOrEqual(pixels, Value(round(at_least * 1e6))))
        if below is not None:
            found &= Q(LessThan(pixels, Value(round(below * 1e6))))
        return found


class ImageAsset(models.Model):
    """An image of the site."""

    original = models.FileField(
        storage=originals_storage, upload_to="uploads/%Y/%m", unique=True, max_length=NAME_LENGTH
    )
    sessions = models.ManyToManyField(
        TrainingSession, through="SessionImage", related_name="assets", blank=True
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    # The original by its header: pixels as stored, before the orientation is applied.
    width = models.PositiveIntegerField(null=True, editable=False)
    height = models.PositiveIntegerField(null=True, editable=False)
    format = models.CharField(max_length=8, blank=True, editable=False)
    mode = models.CharField(max_length=8, blank=True, editable=False)
    orientation = models.PositiveSmallIntegerField(default=1, editable=False)
    source_version = models.CharField(max_length=48, blank=True, editable=False)
    camera = models.CharField(
        max_length=FACT_LENGTH, blank=True, editable=False, default="", db_default=""
    )
    software = models.CharField(
        max_length=FACT_LENGTH, blank=True, editable=False, default="", db_default=""
    )
    bit_depth = models.PositiveSmallIntegerField("bits a channel", null=True, editable=False)
    """None, as the two after it, until `facts_version` says that the original is described."""
    has_alpha = models.BooleanField("alpha", null=True, editable=False)
    frames = models.PositiveIntegerField(null=True, editable=False)
    color_profile = models.CharField(
        "colour profile",
        max_length=FACT_LENGTH,
        blank=True,
        editable=False,
        default="",
        db_default="",
    )
    compression = models.CharField(
        max_length=12, blank=True, editable=False, default="", db_default=""
    )
    note = models.CharField(max_length=12, blank=True, editable=False, default="", db_default="")
    """What a render notes of a picture that is shown in part."""
    facts_version = models.PositiveSmallIntegerField(default=0, db_default=0, editable=False)
    """The FACTS_VERSION that described the original; 0 was before there was one."""

    # The thumbnail in the cache and what it was made with.
    thumbnail_path = models.CharField(max_length=64, blank=True, editable=False)
    thumbnail_width = models.PositiveIntegerField(null=True, editable=False)
    thumbnail_height = models.PositiveIntegerField(null=True, editable=False)
    thumbnail_bytes = models.PositiveIntegerField(null=True, editable=False)
    thumbnail_generated_at = models.DateTimeField(null=True, editable=False)
    thumbnail_recipe = models.CharField(max_length=16, blank=True, editable=False)
    thumbnail_source = models.CharField(max_length=48, blank=True, editable=False)
    thumbnail_variants = models.JSONField(
        default=dict,
        db_default=Value({}, output_field=models.JSONField()),
        editable=False,
    )
    """Width and height in pixels and size in bytes of each variant, by suffix."""
    thumbnail_hash = models.CharField(
        max_length=40, blank=True, editable=False, default="", db_default=""
    )
    """The thumbnail's ThumbHash in base64, for a placeholder while it loads."""
    thumbnail_error = models.CharField(
        max_length=20,
        blank=True,
        editable=False,
        choices=[(reason.value, reason.label) for reason in Reason],
    )
    thumbnail_error_detail = models.CharField(max_length=DETAIL_LENGTH, blank=True, editable=False)
    thumbnail_error_recipe = models.CharField(
        max_length=16, blank=True, editable=False, default="", db_default=""
    )
    """The recipe that failed, and in `thumbnail_error_source` the original's version: the failure
    is void as soon as either changes."""
    thumbnail_error_source = models.CharField(
        max_length=48, blank=True, editable=False, default="", db_default=""
    )
    accepted_source = models.CharField(max_length=48, null=True, editable=False)  # noqa: DJ001  a version may be empty
    """The original's version whose failures staff accept; None if there is none. Void as soon as
    the original changes, and cleared when it is rendered."""
    thumbnail_revision = models.PositiveBigIntegerField(default=0, db_default=0, editable=False)
    """Grows with each saved result (optimistic locking): the later of two at once is void."""
    thumbnail_history = models.JSONField(default=list, editable=False)
    """The last HISTORY_LENGTH attempts, newest first: `at`, `outcome`, and if any the `reason`
    and the `run`."""

    objects = ImageAssetQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["pk"]
        # Each serves one filter of lists in order of creation, so that a page of a list of
        # millions is read from an index, however few images match. Partial indexes leave out the
        # common value, which fills any page without an index.
        indexes: ClassVar = [
            models.Index(fields=["created_at", "id"], name="image_by_creation"),
            models.Index(fields=["thumbnail_recipe", "created_at", "id"], name="image_by_recipe"),
            models.Index(fields=["thumbnail_generated_at"], name="image_by_generation"),
            models.Index(
                fields=["created_at", "id"],
                condition=Q(thumbnail_path=""),
                name="image_without_thumbnail",
            ),
            models.Index(
                fields=["created_at", "id"],
                condition=~Q(thumbnail_error=""),
                name="image_with_error",
            ),
            models.Index(
                fields=["created_at", "id"],
                condition=~Q(thumbnail_source=F("source_version")),
                name="image_with_other_source",
            ),
            models.Index(
                fields=["orientation", "created_at", "id"],
                condition=~Q(orientation=1),
                name="image_by_orientation",
            ),
            models.Index(
                fields=["format", "created_at", "id"],
                condition=~Q(format="JPEG"),
                name="image_by_format",
            ),
            models.Index(
                fields=["mode", "created_at", "id"], condition=~Q(mode="RGB"), name="image_by_mode"
            ),
            models.Index(
                fields=["camera", "created_at", "id"],
                condition=~Q(camera=""),
                name="image_by_camera",
            ),
            models.Index(
                fields=["software", "created_at", "id"],
                condition=~Q(software=""),
                name="image_by_software",
            ),
            models.Index(
                fields=["color_profile", "created_at", "id"],
                condition=~Q(color_profile=""),
                name="image_by_profile",
            ),
            models.Index(
                fields=["compression", "created_at", "id"],
                condition=~Q(compression__in=["", "baseline"]),
                name="image_by_compression",
            ),
            models.Index(
                fields=["bit_depth", "created_at", "id"],
                condition=Q(bit_depth__lt=8) | Q(bit_depth__gt=8),
                name="image_by_depth",
            ),
            models.Index(
                fields=["created_at", "id"], condition=Q(has_alpha=True), name="image_with_alpha"
            ),
            models.Index(
                fields=["created_at", "id"], condition=Q(frames__gt=1), name="image_with_frames"
            ),
            models.Index(
                fields=["created_at", "id"], condition=~Q(note=""), name="image_with_note"
            ),
        ]
        permissions: ClassVar = [
            ("regenerate_thumbnails", "Can regenerate thumbnails"),
            ("purge_thumbnails", "Can purge thumbnails from the cache"),
        ]

    def __str__(self) -> str:
        return str(self.original.name)

    @property
    def file_name(self) -> str:
        """The original's name without folders."""
        return PurePath(str(self.original.name)).name

    @property
    def title(self) -> str:
        """For people: the file's name without folders, extension and separators."""
        stem = PurePath(self.file_name).stem
        return stem.replace("-", " ").replace("_", " ").strip() or str(self)

    @property
    def thumbnail_name(self) -> str:
        """Its thumbnail's name in the cache, whether it exists or not."""
        return name_for(self.pk)

    @property
    def session_ids(self) -> list[int]:
        """Ids of its sessions, ascending. Takes a query unless `memberships` are prefetched."""
        return sorted(member.session_id for member in self.memberships.all())

    def set_sessions(self, sessions: Iterable[TrainingSession]) -> None:
        """Put it into these sessions and take it out of all others."""
        ids = [session.pk for session in sessions]
        with transaction.atomic():
            self.memberships.exclude(session__in=ids).delete()
            SessionImage.objects.add((each, self.pk, self.created_at) for each in ids)

    def history_with(
        self, outcome: Outcome, *, reason: Reason | None = None, run_id: int | None = None
    ) -> list[dict[str, Any]]:
        """Returns its history with this entry on top."""
        entry: dict[str, Any] = {
            "at": timezone.now().isoformat(timespec="seconds"),
            "outcome": outcome.value,
        }
        if reason is not None:
            entry["reason"] = reason.value
        if run_id is not None:
            entry["run"] = run_id
        return [entry, *self.thumbnail_history][:HISTORY_LENGTH]

    @property
    def fingerprint(self) -> str:
        """Fingerprint of a fresh thumbnail."""
        return recipe_in_force().fingerprint(self.source_version)

    @property
    def thumbnail_url(self) -> str:
        """The public URL of its thumbnail. Takes no query and no access to the cache.

        `v` is the fingerprint of the recorded thumbnail, or of the one to be made if there is none.
        Whatever serves the cache's file under it is right, since a file is replaced before its
        row. `stale` is for what the app itself has to answer: an older thumbnail is recorded.
        """
        url = public_path(name_for(self.pk))
        fresh = self.fingerprint
        recorded = self.recorded_fingerprint or fresh
        return f"{url}?v={recorded}" if recorded == fresh else f"{url}?v={recorded}&stale=1"

    def thumbnail_sources(self, name: str = "", *, by_width: bool = False) -> Sources:
        """Returns what an `<img>` or `<picture>` of it needs, as a plain value for JSON.

        With the name of a size of THUMBNAIL_VARIANTS (`large` of `-large.jpg`), of that size, or
        of the thumbnail if it was made without. Lists only files that are recorded or, for a
        missing thumbnail, that will be made. `by_width`: see `sources_of`. Takes no query and no
        access to the cache.
        """
        return sources_of(
            self._outputs(),
            name,
            url=self.thumbnail_url,
            thumb_hash=self.thumbnail_hash,
            by_width=by_width,
        )

    def variant_url(self, suffix: str) -> str:
        """The public URL of the variant with that suffix (`@2x.webp`); of the thumbnail if it was
        made without. Takes no query and no access to the cache."""
        url = self.thumbnail_url
        if not any(output.variant.suffix == suffix for output in self._outputs()):
            return url
        return f"{public_path(name_for(self.pk, suffix))}?{url.partition('?')[2]}"

    def _outputs(self) -> list[Output]:
        """The recorded thumbnail and variants; those to be made if none is recorded."""
        if not self.thumbnail_path:
            recipe = recipe_in_force()
            to_make = (Variant(THUMBNAIL, recipe.size_px), *recipe.variants)
            return [Output(each, *self._size_within(each.size_px)) for each in to_make]
        variants = [
            Output(Variant(suffix, max(width, height)), width, height)
            for suffix, (width, height, _) in self.thumbnail_variants.items()
        ]
        width, height = self.thumbnail_width, self.thumbnail_height
        size_px = max(width or 0, height or 0) or recipe_in_force().size_px
        return [Output(Variant(THUMBNAIL, size_px), width, height), *variants]

    def _size_within(self, size_px: int) -> tuple[int, int] | tuple[None, None]:
        """Width and height of the upright original in a square of that side; None if unknown."""
        if not self.width or not self.height:
            return None, None
        width, height = fit_inside(self.width, self.height, size_px)
        return (height, width) if self.orientation >= 5 else (width, height)

    @property
    def upright_size(self) -> tuple[int, int] | None:
        """Width and height of the original in pixels, its orientation applied; None if unknown."""
        if not self.width or not self.height:
            return None
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)

    @property
    def recorded_fingerprint(self) -> str | None:
        """Fingerprint of the recorded thumbnail; None if there is none."""
        if not self.thumbnail_path:
            return None
        return fingerprint_of(self.thumbnail_recipe, self.thumbnail_source)

    def accepts(self, reason: str, version: str) -> bool:
        """Whether staff accept that this version of its original fails for that reason."""
        return self.accepted_source == version and reason != Reason.STORAGE_ERROR

    @property
    def state(self) -> State:
        """As the QuerySet's conditions, for this instance."""
        now = (recipe_in_force().digest, self.source_version)
        if self.thumbnail_error and now == (
            self.thumbnail_error_recipe,
            self.thumbnail_error_source,
        ):
            accepted = self.accepts(self.thumbnail_error, self.source_version)
            return State.ACCEPTED if accepted else State.FAILED
        if not self.thumbnail_path:
            return State.MISSING
        made_as_now = now == (self.thumbnail_recipe, self.thumbnail_source)
        return State.FRESH if made_as_now else State.STALE

    @property
    def display_size(self) -> tuple[int, int] | None:
        """Width and height in pixels of what `thumbnail_url` shows; None if unknown."""
        if self.thumbnail_path and self.thumbnail_width and self.thumbnail_height:
            return self.thumbnail_width, self.thumbnail_height
        width, height = self._size_within(recipe_in_force().size_px)
        return (width, height) if width and height else None


class SessionImageManager(models.Manager["SessionImage"]):
    def add(self, members: Iterable[tuple[int, int, datetime]]) -> None:
        """Put images into sessions; what is in one already stays.

        `members` are ids of a session and of an image, and that image's `created_at`. They are
        read as they are written, so there may be millions.
        """
        names = ("session", "image", "created_at")
        with transaction.atomic():
            for some in batched(members, MEMBERS_AT_ONCE):
                insert(SessionImage, names, some, ignore_conflicts=True)


class SessionImage(models.Model):
    """An image in a session."""

    session = models.ForeignKey(
        TrainingSession,
        models.CASCADE,
        related_name="memberships",
        db_index=False,  # session_in_creation_order covers it
    )
    image = models.ForeignKey(
        ImageAsset,
        models.CASCADE,
        related_name="memberships",
        db_index=False,  # session_of_image covers it
    )
    created_at = models.DateTimeField()
    """A copy of the image's, so that one index returns a session's images in order of creation."""

    objects = SessionImageManager()

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["image", "session"], name="session_of_image")
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["session", "created_at", "image"], name="session_in_creation_order"
            )
        ]

    def __str__(self) -> str:
        return f"image {self.image_id} in session {self.session_id}"
