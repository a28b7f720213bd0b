"""The schemas of requests and responses: keys in camelCase, times in ISO 8601 with their zone."""

import re
from datetime import date, datetime
from typing import Annotated, Any, Literal, Self

from django.db.models import TextChoices
from ninja import Path, Schema
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from thumbnails.exceptions import Reason, UsageError
from thumbnails.models import ImageAsset, Run, State
from thumbnails.models.runs import Progress
from thumbnails.models.sources import Sources
from thumbnails.rendering import FACT_LENGTH, NO_TEXT, Compression, Note
from thumbnails.upkeep.reports.counts import Statistics
from thumbnails.upkeep.reports.run_report import CURSOR, ReportRow
from thumbnails.upkeep.runs.planning import Plan
from thumbnails.upkeep.selection import conditions

LARGEST_ID = 10**conditions.LARGEST_ID_DIGITS - 1
PAGE_AT_MOST = 500
IDS_AT_MOST = 10_000
"""In one request; a script with more of them starts several runs."""


def _day(value: Any) -> date:
    try:
        return conditions.day(value if isinstance(value, str) else "")
    except UsageError as error:
        raise ValueError(str(error)) from None


def _label(value: str) -> str:
    try:
        return conditions.label(value)
    except UsageError as error:
        raise ValueError(str(error)) from None


def _plain_number(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"0|[1-9][0-9]*", value):
        raise ValueError("not a whole number like 12")
    return value


Day = Annotated[date, BeforeValidator(_day), WithJsonSchema({"type": "string", "format": "date"})]
Id = Annotated[StrictInt, Field(ge=1, le=LARGEST_ID)]
Ids = Annotated[list[Id], Field(min_length=1, max_length=IDS_AT_MOST)]
Orientation = Annotated[StrictInt, Field(ge=1, le=8)]
Label = Annotated[str, Field(min_length=1, max_length=FACT_LENGTH), AfterValidator(_label)]
"""Of an original, as its header says it; NO_TEXT for those that say none."""
BitDepth = Annotated[StrictInt, Field(ge=1, le=64)]
FrameCount = Annotated[StrictInt, Field(ge=1, le=10**9)]
PlainInt = Annotated[int, BeforeValidator(_plain_number)]
"""Of a URL, where everything is text: no sign, no spaces, no 1.0 and no 1_0."""
NumberInUrl = Annotated[PlainInt, Field(ge=1, le=LARGEST_ID)]
IdInPath = Annotated[PlainInt, Path(alias="id", ge=1, le=LARGEST_ID)]
Cursor = Annotated[str, Field(pattern="^-?[0-9]{1,16}-[0-9]{1,18}$")]
"""When the last image of a page was created, in microseconds since 1970, and its id."""
PlaceInRun = Annotated[str, Field(pattern=f"^{CURSOR}$")]
"""The last image of a page of a run's report: its chunk and its place there."""
ReportedOutcome = Literal["rendered", "fresh", "purged", "failed", "accepted", "open", "unknown"]
PageSize = Annotated[PlainInt, Field(ge=1, le=PAGE_AT_MOST)]


def _one_of(choices: type[TextChoices]) -> WithJsonSchema:
    """Inlined where it is used: the document would name both kinds of states `State`."""
    return WithJsonSchema({"type": "string", "enum": choices.values})


ImageState = Annotated[State, _one_of(State)]
RunState = Annotated[Run.State, _one_of(Run.State)]


class Out(Schema):
    """A response."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class In(Schema):
    """A request. Unknown keys are refused, and so is null: an optional key is omitted."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")


# --- requests -------------------------------------------------------------------------------------

NOT_GIVEN: Any = None
"""Default of keys that may be omitted. Their types do not allow null, which would mean nothing."""


class SessionIn(In):
    force: StrictBool = Field(default=False, description="Render fresh ones again, too.")


class RegenerateIn(SessionIn):
    """All conditions are optional and combined with *and*."""

    asset_ids: Ids = Field(default=NOT_GIVEN, description="These, each of which exists.")
    from_date: Day = Field(default=NOT_GIVEN, description="Created on that day or later.")
    to_date: Day = Field(default=NOT_GIVEN, description="Created on that day or before.")
    session_id: Id = Field(default=NOT_GIVEN, description="Of this training session.")
    states: Annotated[list[ImageState], Field(min_length=1, max_length=len(State))] = Field(
        default=NOT_GIVEN, description="In one of these states."
    )
    orientations: Annotated[list[Orientation], Field(min_length=1, max_length=8)] = Field(
        default=NOT_GIVEN, description="With one of these EXIF orientations."
    )
    camera: Label = Field(
        default=NOT_GIVEN, description=f"Of this camera; {NO_TEXT}: that name none."
    )
    software: Label = Field(
        default=NOT_GIVEN, description=f"Written by this software; {NO_TEXT}: that name none."
    )
    color_profile: Label = Field(
        default=NOT_GIVEN, description=f"With the profile of this name; {NO_TEXT}: without one."
    )
    compressions: Annotated[list[Compression], Field(min_length=1, max_length=len(Compression))] = (
        Field(default=NOT_GIVEN, description="Compressed in one of these ways.")
    )
    bit_depths: Annotated[list[BitDepth], Field(min_length=1, max_length=64)] = Field(
        default=NOT_GIVEN, description="With one of these numbers of bits a channel."
    )
    has_alpha: StrictBool = Field(
        default=NOT_GIVEN, description="Whose pixels may be transparent, or are not."
    )
    min_frames: FrameCount = Field(
        default=NOT_GIVEN, description="With that many frames or pages, or more."
    )
    max_frames: FrameCount = Field(default=NOT_GIVEN, description="With that many, or fewer.")
    notes: Annotated[list[Note], Field(min_length=1, max_length=len(Note))] = Field(
        default=NOT_GIVEN, description="Shown in part, with one of these notes."
    )
    dry_run: StrictBool = Field(default=False, description="Only report what would be done.")


class RetryIn(In):
    reason: Reason = Field(default=NOT_GIVEN, description="Only what failed for this.")


class PurgeIn(In):
    """All conditions are combined with *and*; without any, `all` is required."""

    asset_ids: Ids = Field(default=NOT_GIVEN, description="These, each of which exists.")
    shard: str = Field(
        default=NOT_GIVEN,
        pattern="^[0-9a-f]{2}$",
        description="Those in this folder of the cache, like 0a.",
    )
    older_than_days: Annotated[StrictInt, Field(ge=0, le=99_999)] = Field(
        default=NOT_GIVEN, description="Those made longer ago than that."
    )
    session_id: Id = Field(default=NOT_GIVEN, description="Of this training session.")
    all: StrictBool = Field(default=False, description="All of them.")
    dry_run: StrictBool = Field(default=False, description="Only report what would be done.")


# --- responses ------------------------------------------------------------------------------------


class SourceOut(Out):
    """A `<source>` of a `<picture>`."""

    type: str
    srcset: str


class SourcesOut(Out):
    """The attributes of an `<img>`, and the sources of a `<picture>` around it."""

    src: str
    width: int | None = Field(description="Of `src`; null while the original's is not known.")
    height: int | None
    srcset: str = Field(description="Empty if there is one density.")
    sources: list[SourceOut] = Field(description="Of other formats, the smallest files first.")
    placeholder: str = Field(description="A picture to be shown while it loads, or empty.")

    @classmethod
    def of(cls, found: Sources) -> Self:
        values: dict[str, Any] = {**found}
        values["sources"] = [SourceOut.model_construct(**each) for each in found["sources"]]
        return cls.model_construct(**values)


class ImageOut(Out):
    """An image: its original, and its thumbnail as the database records it."""

    asset_id: int
    original: str
    title: str
    session_id: int | None = Field(description="The first of its sessions; null: it is in none.")
    session_ids: list[int] = Field(description="All of its sessions, ascending.")
    created_at: datetime
    width: int | None
    height: int | None
    format: str
    mode: str
    orientation: int
    camera: str = Field(description="Make and model, as all facts by the original's header.")
    software: str
    color_profile: str
    compression: str
    bit_depth: int | None = Field(description="Bits a channel; null, as the next two: not known.")
    has_alpha: bool | None
    frames: int | None
    note: str = Field(description="What is noted of an original that is shown in part.")
    state: ImageState
    thumbnail_url: str
    thumbnail_sources: SourcesOut = Field(description="What a page needs to show it.")
    thumbnail_width: int | None
    thumbnail_height: int | None
    thumbnail_bytes: int | None
    thumbnail_generated_at: datetime | None
    thumbnail_recipe: str
    reason: str = Field(description="Why the last try failed; empty where it went well.")
    detail: str

    @classmethod
    def of(cls, asset: ImageAsset) -> Self:
        session_ids = asset.session_ids
        own: dict[str, Any] = {
            "asset_id": asset.pk,
            "original": str(asset),
            "session_id": session_ids[0] if session_ids else None,
            "session_ids": session_ids,
            "thumbnail_sources": SourcesOut.of(asset.thumbnail_sources()),
            "reason": asset.thumbnail_error,
            "detail": asset.thumbnail_error_detail,
        }
        same = {name: getattr(asset, name) for name in cls.model_fields.keys() - own.keys()}
        # Columns of the database are not validated, which would cost more than all the rest.
        return cls.model_construct(**own, **same)


class ImagePage(Out):
    """Some images, the newest first."""

    images: list[ImageOut]
    next_cursor: str | None = Field(description="The `cursor` of the next page; null on the last.")


class Generated(Out):
    """A thumbnail that was rendered now."""

    asset_id: int
    thumbnail_path: str = Field(description="On the server's disk, or its name in the storage.")
    width: int
    height: int
    status: Literal["generated"] = "generated"


class NotGenerated(Out):
    """A thumbnail that could not be rendered."""

    asset_id: int
    status: Literal["failed"] = "failed"
    reason: Reason
    detail: str


class RunOut(Out):
    """A run and its progress."""

    id: int
    kind: Run.Kind
    state: RunState
    total: int
    done: int
    rendered: int
    fresh: int = Field(description="Skipped.")
    purged: int
    failed: int
    accepted: int = Field(description="Failed again or not tried, as staff accept.")
    failures: dict[str, int] = Field(description="Number of failures by reason.")
    rate: float | None = Field(description="Images a second, lately or on the whole.")
    seconds_left: float | None
    force: bool
    scope: dict[str, Any] = Field(description="The selection as it was asked for.")
    scope_text: str
    recipe: str
    origin: Run.Origin
    started_by: str | None
    note: str
    pause_reason: str
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, run: Run, progress: Progress) -> Self:
        counted: dict[str, Any] = {
            **progress.outcomes,
            "done": progress.done,
            "failures": {reason: len(ids) for reason, ids in progress.failures.items()},
            "rate": None if progress.rate is None else round(progress.rate, 3),
            "seconds_left": _rounded(None if run.is_over else progress.seconds_left),
            "started_by": run.started_by.get_username() if run.started_by else None,
        }
        same = {name: getattr(run, name) for name in cls.model_fields.keys() - counted.keys()}
        return cls(**counted, **same)


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 1)


class RunPage(Out):
    """Some runs, the newest first."""

    runs: list[RunOut]
    next_cursor: int | None = Field(description="The `cursor` of the next page; null on the last.")


class ReportedImage(Out):
    """What became of an image of a run, and how it is now."""

    id: int
    name: str = Field(description="Of its original; empty: the image was deleted.")
    outcome: str = Field(description="Of the run, or open or unknown.")
    reason: str = Field(description="Of a failure.")
    old_fingerprint: str = Field(description="Of the thumbnail before; empty: there was none.")
    new_fingerprint: str = Field(description="Of the thumbnail after the run.")
    url: str
    state: str = Field(description="Now; deleted: the image is gone.")

    @classmethod
    def of(cls, row: ReportRow) -> Self:
        return cls.model_construct(**{name: getattr(row, name) for name in cls.model_fields})


class NowOut(Out):
    """How things stand now with a run's images."""

    missing: int
    fresh: int
    stale: int
    failed: int
    accepted: int
    replaced: int = Field(description="They have another thumbnail than after the run.")
    purged: int = Field(description="They had a thumbnail after the run, and have none.")
    deleted: int


class ReportPage(Out):
    """Some images of a run, in its order."""

    images: list[ReportedImage]
    now: NowOut | None = Field(description="Of all its images, if it was asked for.")
    next_cursor: str | None = Field(description="The `cursor` of the next page; null on the last.")


class PlanOut(Out):
    """What a run would do. Nothing was started."""

    dry_run: Literal[True] = True
    total: int
    states: dict[ImageState, int] = Field(description="What it would work on, by state.")
    bytes: int = Field(description="Of the thumbnails that are there then, or would be deleted.")
    seconds: float | None = Field(description="By the last runs of similar size; null: not known.")
    seconds_at_least: float | None
    seconds_at_most: float | None

    @classmethod
    def of(cls, plan: Plan) -> Self:
        estimate = plan.estimate
        return cls(
            total=plan.total,
            states=plan.states,
            bytes=plan.size_bytes,
            seconds=_rounded(estimate.seconds if estimate else None),
            seconds_at_least=_rounded(estimate.at_least if estimate else None),
            seconds_at_most=_rounded(estimate.at_most if estimate else None),
        )


class CacheUse(Out):
    """What lies in the cache, or in a part of it."""

    files: int
    bytes: int


class StatisticsOut(Out):
    """Counts of the site's assets and thumbnails."""

    assets: dict[ImageState, int]
    failures: dict[str, int] = Field(description="Failed assets by reason.")
    cache: CacheUse
    shards: dict[str, CacheUse]
    variants: dict[str, CacheUse] = Field(description="Of these, by suffix: variants.")
    recipe: str = Field(description="The digest of the recipe in force.")
    other_recipes: dict[str, int] = Field(description="Thumbnails that other recipes made.")

    @classmethod
    def of(cls, found: Statistics) -> Self:
        return cls(
            assets=found.assets,
            failures=found.failures,
            cache=CacheUse(files=found.files, bytes=found.size_bytes),
            shards={
                shard.name: CacheUse(files=shard.files, bytes=shard.size_bytes)
                for shard in found.shards
            },
            variants={
                variant.suffix: CacheUse(files=variant.files, bytes=variant.size_bytes)
                for variant in found.variants
            },
            recipe=found.recipe,
            other_recipes=found.other_recipes,
        )


class Liveness(Out):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(Out):
    """Every dependency of the site answers."""

    status: Literal["ready"] = "ready"
    checks: dict[str, bool]


class FieldError(Out):
    """What is wrong with one field of a request."""

    field: str
    detail: str


class Problem(Out):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] = Field(
        default=NOT_GIVEN, description="With 422: which fields are at fault."
    )
    run: RunOut = Field(
        default=NOT_GIVEN,
        description="With 503: the run, which is saved. With 409: the one that does the same.",
    )
    retry_after_seconds: int = Field(
        default=NOT_GIVEN, description="With 429: when to try again, as in `Retry-After`."
    )
    checks: dict[str, bool] = Field(
        default=NOT_GIVEN, description="With 503 of readyz: which dependencies answer."
    )
