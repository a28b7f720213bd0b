"""Assets, and the state of their thumbnails as conditions on columns."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import date, datetime, time
from pathlib import PurePath
from typing import Any, ClassVar, Self

from django.core.files.storage import Storage
from django.db import connections, models, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Func, Q, Value
from django.db.models.functions import Cast
from django.db.models.lookups import GreaterThanOrEqual, LessThan
from django.urls import reverse
from django.utils import timezone

from thumbnails.exceptions import Reason
from thumbnails.models.recipes import recipe_in_force
from thumbnails.rendering import Facts, fingerprint_of, fit_inside
from thumbnails.storage import originals
from thumbnails.storage.names import name_for, shard_for

NAME_LENGTH = 500
DETAIL_LENGTH = 300
HISTORY_LENGTH = 8


class State(models.TextChoices):
    """Of an asset's thumbnail, by recipe in force and original."""

    MISSING = "missing"
    FRESH = "fresh"
    STALE = "stale"
    FAILED = "failed"


class Outcome(models.TextChoices):
    """What became of one asset in a run."""

    RENDERED = "rendered"
    FRESH = "fresh"
    PURGED = "purged"
    FAILED = "failed"


def originals_storage() -> Storage:
    return originals.storage()


class TrainingSession(models.Model):
    """A group of assets."""

    name = models.CharField(max_length=200, unique=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the database says of an asset's thumbnail, whole: the columns that change together."""

    thumbnail_path: str = ""
    thumbnail_width: int | None = None
    thumbnail_height: int | None = None
    thumbnail_bytes: int | None = None
    thumbnail_generated_at: datetime | None = None
    thumbnail_recipe: str = ""
    thumbnail_source: str = ""


NO_THUMBNAIL = Record()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why the last try failed, and for which recipe and original. The thumbnail stays."""

    thumbnail_error: str = ""
    thumbnail_error_detail: str = ""
    thumbnail_error_recipe: str = ""
    thumbnail_error_source: str = ""


NO_FAILURE = Failure()


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A row as it was when the work on its asset began; it may have changed since."""

    original: str
    source_version: str
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of one try at an asset's thumbnail, to be saved."""

    asset_id: int
    outcome: Outcome
    reason: Reason | None = None
    """Why it failed; None where it did not."""
    read: Read | None = None
    """The row that it is of: the result is void where that has changed since. None where there
    is nothing to save."""
    record: Record | None = None
    """The new record; None leaves it as it is."""
    failure: Failure | None = None
    """The new failure, or none any more; None leaves it as it is."""
    facts: Facts | None = None
    """What the original's header says now, where the original has changed."""
    source_version: str | None = None
    """The original's version now, where it has changed."""
    history: list[dict[str, Any]] | None = None
    """The asset's history with this in it; None leaves it as it is."""
    content: bytes | None = None
    """The thumbnail that was rendered."""
    is_stored: bool = True
    """False: the cache did not take it, so it is good for this one answer."""


class ImageAssetQuerySet(models.QuerySet["ImageAsset"]):
    """Assets by the state of their thumbnails, and results saved."""

    def _made_as_now(self) -> Q:
        return Q(thumbnail_recipe=recipe_in_force().digest, thumbnail_source=F("source_version"))

    def _failed_as_now(self) -> Q:
        return ~Q(thumbnail_error="") & Q(
            thumbnail_error_recipe=recipe_in_force().digest,
            thumbnail_error_source=F("source_version"),
        )

    def _in_state(self) -> dict[State, Q]:
        """The four states; each asset is in exactly one."""
        failed = self._failed_as_now()
        has_file = ~Q(thumbnail_path="")
        return {
            State.FAILED: failed,
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

    def fresh(self) -> Self:
        return self.in_state(State.FRESH)

    def stale(self) -> Self:
        return self.in_state(State.STALE)

    def missing(self) -> Self:
        return self.in_state(State.MISSING)

    def failed(self) -> Self:
        return self.in_state(State.FAILED)

    def not_fresh(self) -> Self:
        """What a regeneration has to do: missing, stale and failed."""
        return self.in_state(State.MISSING, State.STALE, State.FAILED)

    def ranges_in_state(self, *states: State) -> "list[Part]":
        """The same as `in_state`, cut into parts that an index gives in order of creation each.

        Thumbnails of other recipes are one part for each of those recipes, which are few.
        """
        conditions = self._in_state()
        current = recipe_in_force().digest
        has_file = self.exclude(thumbnail_path="").filter(~self._failed_as_now())
        parts = []
        for state in dict.fromkeys(states):
            if state == State.FRESH:
                whole = has_file.filter(thumbnail_source=F("source_version"))
                parts.append(Part(whole, recipe=current))
            elif state != State.STALE:
                parts.append(Part(self.filter(conditions[state])))
            else:
                others = [recipe for recipe in self.model.objects.recipes() if recipe != current]
                parts += [Part(has_file, recipe=recipe) for recipe in others]
                changed = has_file.exclude(thumbnail_source=F("source_version"))
                parts.append(Part(changed.filter(thumbnail_recipe=current)))
        return parts

    def recipes(self) -> list[str]:
        """The digests of the recipes that any thumbnail was made by. A query for each."""
        found: list[str] = []
        last = ""
        while True:  # what PostgreSQL calls a loose index scan; it has none for DISTINCT
            later = self.filter(thumbnail_recipe__gt=last).order_by("thumbnail_recipe")
            last = later.values_list("thumbnail_recipe", flat=True).first() or ""
            if not last:
                return found
            found.append(last)

    def count_by_state(self) -> dict[State, int]:
        """How many there are in each of the four states."""
        counted = self.aggregate(
            **{state.value: models.Count("pk", filter=q) for state, q in self._in_state().items()}
        )
        return {state: counted[state.value] for state in State}

    def count_by_reason(self) -> dict[str, int]:
        """How many failed for which reason."""
        rows = self.failed().order_by().values_list("thumbnail_error")
        return dict(rows.annotate(models.Count("pk")))

    def count_by_recipe(self, *, besides: str) -> dict[str, int]:
        """How many thumbnails other recipes than that one made."""
        made = self.exclude(thumbnail_path="").exclude(thumbnail_recipe=besides)
        rows = made.order_by().values_list("thumbnail_recipe")
        return dict(rows.annotate(models.Count("pk")))

    def created_from(self, day: date) -> Self:
        return self.filter(created_at__gte=timezone.make_aware(datetime.combine(day, time.min)))

    def created_to(self, day: date) -> Self:
        """Created on that day or before."""
        return self.filter(created_at__lte=timezone.make_aware(datetime.combine(day, time.max)))

    def generated_before(self, day: date) -> Self:
        """Whose thumbnail was made before that day began."""
        begin = timezone.make_aware(datetime.combine(day, time.min))
        return self.filter(thumbnail_generated_at__lt=begin)

    def with_megapixels(self, at_least: float | None, below: float | None) -> Self:
        """Whose original has so many million pixels."""
        return self.filter(self.of_megapixels(at_least, below))

    def of_megapixels(self, at_least: float | None, below: float | None) -> Q:
        """As `with_megapixels`, as a condition."""
        size = models.BigIntegerField()
        pixels = Cast("width", size) * Cast("height", size)
        found = Q()
        if at_least is not None:
            found &= Q(GreaterThanOrEqual(pixels, Value(round(at_least * 1e6))))
        if below is not None:
            found &= Q(LessThan(pixels, Value(round(below * 1e6))))
        return found

    def save_results(self, results: Iterable[Result]) -> list[int]:
        """Save the results, in one transaction and one statement per kind.

        Returns the ids of those that are void and were not saved: the asset was deleted, got
        another original or another version of it, or was written by somebody else, since the
        work on it began.

        Django's own bulk_update grows a CASE per row and column and costs more than rendering a
        small picture; an executemany over a prepared UPDATE costs a tenth.
        """
        # In the order of ids, so that two writers lock rows in the same order.
        wanted = sorted((r for r in results if r.read is not None), key=lambda r: r.asset_id)
        if not wanted:
            return []
        connection = connections[router.db_for_write(self.model)]
        with transaction.atomic(using=connection.alias):
            now = self.using(connection.alias).select_for_update().order_by("pk")
            rows = now.filter(pk__in=[result.asset_id for result in wanted]).values_list(
                "pk", "original", "source_version", "thumbnail_revision"
            )
            found = {
                pk: Read(original=original, source_version=version, revision=revision)
                for pk, original, version, revision in rows
            }
            valid = [result for result in wanted if found.get(result.asset_id) == result.read]
            self._update(connection, valid)
        saved = {result.asset_id for result in valid}
        return [result.asset_id for result in wanted if result.asset_id not in saved]

    def _update(self, connection: BaseDatabaseWrapper, results: Iterable[Result]) -> None:
        rows_by_columns: dict[tuple[str, ...], list[list[Any]]] = {}
        for result in results:
            values = _columns(result)
            rows_by_columns.setdefault(tuple(values), []).append(
                [*values.values(), result.asset_id]
            )
        concrete = {field.name: field for field in self.model._meta.concrete_fields}
        for columns, rows in rows_by_columns.items():
            set_fields = [concrete[column] for column in columns]
            assignments = "".join(f'"{field.column}" = %s, ' for field in set_fields)
            with connection.cursor() as cursor:
                cursor.executemany(
                    f'UPDATE "{self.model._meta.db_table}" SET {assignments}'  # noqa: S608  names from the model, values as parameters
                    '"thumbnail_revision" = "thumbnail_revision" + 1 WHERE "id" = %s',
                    [
                        [
                            field.get_db_prep_save(value, connection)
                            for field, value in zip(set_fields, row, strict=False)
                        ]
                        + row[len(set_fields) :]
                        for row in rows
                    ],
                )


@dataclass(frozen=True, slots=True)
class Part:
    """Some assets, to be read in order of creation, the newest first."""

    assets: ImageAssetQuerySet
    recipe: str | None = None
    """Only those whose thumbnail this recipe made."""

    def newest(self, *, before: tuple[datetime, int] | None = None) -> ImageAssetQuerySet:
        """All, or those after the one that was created then and has that id."""
        columns, values = ["created_at", "pk"], list[Any](before or ())
        found = self.assets
        if self.recipe is not None:
            # As bounds and a column to order by, not as an equation: for that, PostgreSQL might
            # walk all assets in order of creation in the hope to meet some of this recipe soon.
            found = found.filter(thumbnail_recipe__gte=self.recipe)
            columns, values = ["thumbnail_recipe", *columns], [self.recipe, *values]
        if before is not None:
            found = found.filter(LessThan(_row(map(F, columns)), _row(map(Value, values))))
        elif self.recipe is not None:
            found = found.filter(thumbnail_recipe__lte=self.recipe)
        return found.order_by(*(f"-{column}" for column in columns))


def _row(parts: Iterable[F | Value]) -> Func:
    """SQL's row value: rows compare column by column, as an index over these columns does."""
    return Func(*parts, template="(%(expressions)s)", output_field=models.BooleanField())


def _columns(result: Result) -> dict[str, Any]:
    """The columns that a result changes."""
    columns: dict[str, Any] = {}
    for part in (result.record, result.failure, result.facts):
        if part is not None:
            columns |= _as_dict(part)
    if result.history is not None:
        columns["thumbnail_history"] = result.history
    if result.source_version is not None:
        columns["source_version"] = result.source_version
    return columns


def _as_dict(value: Record | Failure | Facts) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


class ImageAsset(models.Model):
    """An image that the site knows."""

    original = models.FileField(
        storage=originals_storage, upload_to="uploads/%Y/%m", unique=True, max_length=NAME_LENGTH
    )
    session = models.ForeignKey(
        TrainingSession,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="assets",
        db_index=False,  # image_by_session serves it
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    # The original, as its header describes it: stored pixels, before the orientation is applied.
    width = models.PositiveIntegerField(null=True, editable=False)
    height = models.PositiveIntegerField(null=True, editable=False)
    format = models.CharField(max_length=8, blank=True, editable=False)
    mode = models.CharField(max_length=8, blank=True, editable=False)
    orientation = models.PositiveSmallIntegerField(default=1, editable=False)
    source_version = models.CharField(max_length=48, blank=True, editable=False)

    # The thumbnail: what is in the cache and what it was made with.
    thumbnail_path = models.CharField(max_length=64, blank=True, editable=False)
    thumbnail_width = models.PositiveIntegerField(null=True, editable=False)
    thumbnail_height = models.PositiveIntegerField(null=True, editable=False)
    thumbnail_bytes = models.PositiveIntegerField(null=True, editable=False)
    thumbnail_generated_at = models.DateTimeField(null=True, editable=False)
    thumbnail_recipe = models.CharField(max_length=16, blank=True, editable=False)
    thumbnail_source = models.CharField(max_length=48, blank=True, editable=False)
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
    """The recipe that failed, and in `thumbnail_error_source` the original's version: with
    another one of either, the failure says nothing any more."""
    thumbnail_error_source = models.CharField(
        max_length=48, blank=True, editable=False, default="", db_default=""
    )
    thumbnail_revision = models.PositiveBigIntegerField(default=0, db_default=0, editable=False)
    """Grows with each result that is saved: of two at once, the later one is void."""
    thumbnail_history = models.JSONField(default=list, editable=False)
    """What came of the last HISTORY_LENGTH tries, the newest first: `at`, `outcome`, and where
    there is one the `reason` and the `run`."""

    objects = ImageAssetQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["pk"]
        # Each serves one way of narrowing a list that is in order of creation: a page of a list
        # of millions is then read off an index, however few of them it means. Where one value is
        # common the index leaves it out: any page is full of it.
        indexes: ClassVar = [
            models.Index(fields=["created_at", "id"], name="image_by_creation"),
            models.Index(fields=["session", "created_at", "id"], name="image_by_session"),
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
        ]
        permissions: ClassVar = [
            ("regenerate_thumbnails", "Can regenerate thumbnails"),
            ("purge_thumbnails", "Can purge thumbnails from the cache"),
        ]

    def __str__(self) -> str:
        return str(self.original.name)

    @property
    def title(self) -> str:
        """What people may call it: the file's name without folders, ending and separators."""
        stem = PurePath(str(self.original.name)).stem
        return stem.replace("-", " ").replace("_", " ").strip() or str(self)

    @property
    def thumbnail_name(self) -> str:
        """Where its thumbnail lies in the cache, whether there is one or not."""
        return name_for(self.pk)

    def history_with(
        self, outcome: Outcome, *, reason: Reason | None = None, run_id: int | None = None
    ) -> list[dict[str, Any]]:
        """Its history and this on top."""
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
        """Of the thumbnail that it should have."""
        return recipe_in_force().fingerprint(self.source_version)

    @property
    def thumbnail_url(self) -> str:
        """Its public URL. Costs no query and no look at the cache; names exactly these bytes."""
        url = reverse("thumbnails:thumbnail", args=[shard_for(self.pk), self.pk])
        return f"{url}?v={self.fingerprint}"

    @property
    def recorded_fingerprint(self) -> str | None:
        """Of the thumbnail that the database records as there; None where there is none."""
        if not self.thumbnail_path:
            return None
        return fingerprint_of(self.thumbnail_recipe, self.thumbnail_source)

    @property
    def state(self) -> State:
        """The same as the QuerySet's conditions, for a row at hand."""
        now = (recipe_in_force().digest, self.source_version)
        if self.thumbnail_error and now == (
            self.thumbnail_error_recipe,
            self.thumbnail_error_source,
        ):
            return State.FAILED
        if not self.thumbnail_path:
            return State.MISSING
        made_as_now = now == (self.thumbnail_recipe, self.thumbnail_source)
        return State.FRESH if made_as_now else State.STALE

    @property
    def as_read(self) -> Read:
        """What a result of work on this row depends on."""
        return Read(
            original=str(self.original.name),
            source_version=self.source_version,
            revision=self.thumbnail_revision,
        )

    @property
    def display_size(self) -> tuple[int, int] | None:
        """Width and height in pixels that its thumbnail has or will have; None if unknown."""
        if self.thumbnail_width and self.thumbnail_height and self.state == State.FRESH:
            return self.thumbnail_width, self.thumbnail_height
        if not self.width or not self.height:
            return None
        width, height = fit_inside(self.width, self.height, recipe_in_force().size_px)
        return (height, width) if self.orientation >= 5 else (width, height)
