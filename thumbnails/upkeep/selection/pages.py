"""Pagination of images at a cost that does not grow with their number."""

import heapq
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice
from typing import Any, NamedTuple, TypeVar

from django.db.models import BooleanField, Count, F, Func, Q, QuerySet, Value
from django.db.models.lookups import GreaterThanOrEqual, LessThan

from thumbnails.exceptions import UsageError
from thumbnails.models import ImageAsset, SessionImage, State, recipe_in_force
from thumbnails.models.assets import ImageAssetQuerySet, end_of, start_of
from thumbnails.upkeep.selection import conditions
from thumbnails.upkeep.selection.conditions import Selection

T = TypeVar("T")

SESSIONS_MERGED = 20
"""Of one name, each by a query of its own; more are looked for in the list of all images."""
LOOKED_THROUGH = 20_000
"""For a name, which is looked for in each row: some 50 ms."""
EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
MEMBERS_READ = 20_000
"""Of sessions, to find those in a state or to count them by it."""


class Position(NamedTuple):
    """A cursor: the last image of a page."""

    created_at: datetime
    asset_id: int

    @property
    def text(self) -> str:
        """As `position_from` reads it."""
        return f"{(self.created_at - EPOCH) // MICROSECOND}-{self.asset_id}"


def position_from(text: str) -> Position:
    """Returns the position with that text. Raises UsageError."""
    match = re.fullmatch("(-?[0-9]{1,16})-([0-9]{1,18})", text)
    if match:
        return Position(EPOCH + int(match[1]) * MICROSECOND, int(match[2]))
    raise UsageError(f"{text!r} is not the position of a page.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of images, newest first."""

    images: list[ImageAsset]
    next_before: Position | None
    """The cursor of the next page; None if this is the last one."""
    is_cut: bool = False
    """Whether `search` has looked through as many as it may, and not yet through all."""


@dataclass(frozen=True, slots=True)
class IndexRange:
    """Assets that one index returns in order of creation, newest first."""

    assets: ImageAssetQuerySet
    recipe: str | None = None
    """Restricts them to thumbnails made by this recipe."""
    members: Q | None = None
    """Restricts them to those with such a membership, which is of one session."""
    session: int | None = None
    """That session."""

    def newest(
        self, *, before: Position | None = None, until: Position | None = None
    ) -> ImageAssetQuerySet:
        """Returns all of them, or those after the position `before`, or up to and with `until`."""
        columns, values = ["created_at", "pk"], list[Any](before or ())
        found, restrictions = self.assets, []
        if self.members is not None:
            # Joined, which multiplies no image as they are of one session, and ordered by the
            # memberships' own columns: that is an index.
            restrictions.append(self.members)
            columns = ["memberships__created_at", "memberships__image"]
        if self.recipe is not None:
            # As bounds and a column to order by, not as an equality: PostgreSQL might then scan
            # all assets in order of creation until it finds enough of this recipe.
            found = found.filter(thumbnail_recipe__gte=self.recipe)
            columns, values = ["thumbnail_recipe", *columns], [self.recipe, *values]
        if until is not None:
            bound = _row(map(F, columns[-2:]))
            restrictions.append(Q(GreaterThanOrEqual(bound, _row(map(Value, until)))))
        if before is not None:
            later = LessThan(_row(map(F, columns)), _row(map(Value, values)))
            restrictions.append(Q(later))
        elif self.recipe is not None:
            found = found.filter(thumbnail_recipe__lte=self.recipe)
        # All at once: in a filter of its own each would be of another membership.
        return found.filter(*restrictions).order_by(*(f"-{column}" for column in columns))

    def position_at(self, number: int, *, before: Position | None) -> Position | None:
        """Returns where the image of that number is, counted from 1; None if there are fewer.

        Of a session, among all its images: their index has that without the images themselves.
        """
        if self.session is None:
            rows: Any = self.newest(before=before).values_list("created_at", "pk")
        else:
            members = SessionImage.objects.filter(session=self.session)
            if before is not None:
                columns = map(F, ("created_at", "image"))
                members = members.filter(LessThan(_row(columns), _row(map(Value, before))))
            rows = members.order_by("-created_at", "-image").values_list("created_at", "image")
        return next((Position(*row) for row in rows[number - 1 : number]), None)


def page(selection: Selection, *, size: int, before: Position | None = None) -> Page:
    """Returns the newest images of the selection, or those after that position.

    Every page costs about the same, whatever is selected but a name, which no index has. Raises
    UsageError as the selection.
    """
    return _page(index_ranges(selection), size=size, before=before)


def search(selection: Selection, *, size: int, before: Position | None = None) -> Page:
    """As `page`, but looks through at most LOOKED_THROUGH images for those of the selection's name.

    A page with fewer than `size` images then has a next one, with what is found among older ones.
    """
    if selection.name is None:
        return page(selection, size=size, before=before)
    ranges = index_ranges(replace(selection, name=None))
    ends = [each.position_at(LOOKED_THROUGH, before=before) for each in ranges]
    until = max(filter(None, ends), default=None)
    named = [replace(each, assets=selection.narrow_by_name(each.assets)) for each in ranges]
    found = _page(named, size=size, before=before, until=until)
    if found.next_before is None and until is not None:
        return replace(found, next_before=until, is_cut=True)
    return found


def _page(
    ranges: Sequence[IndexRange],
    *,
    size: int,
    before: Position | None,
    until: Position | None = None,
) -> Page:
    rows = heapq.merge(
        *(each.newest(before=before, until=until)[: size + 1] for each in ranges),
        key=lambda asset: (asset.created_at, asset.pk),
        reverse=True,
    )
    found = list(islice(_each_once(rows), size + 1))
    images = found[:size]
    is_last = len(found) <= size
    last = None if is_last else Position(images[-1].created_at, images[-1].pk)
    return Page(images=images, next_before=last)


def ids_between(selection: Selection, begin: int, end: int) -> list[int]:
    """Returns the ids in the slice `begin:end` of all matches, newest first.

    For numbered pages, whose cost grows with their number. Raises UsageError as the selection.
    """
    lists = _newest_ids(selection)
    if len(lists) == 1:
        return [asset_id for _, asset_id in lists[0][begin:end]]
    rows = heapq.merge(*(each[:end] for each in lists), reverse=True)
    return [asset_id for _, asset_id in islice(_each_once(rows), begin, end)]


def count(selection: Selection) -> int:
    """Returns the number of images that match. Raises UsageError as the selection."""
    if not _is_sessions_alone(selection):
        return selection.assets().count()
    sessions = conditions.ids_of_sessions(selection) or []
    members = SessionImage.objects.filter(session__in=sessions)
    return members.count() if len(sessions) == 1 else members.values("image").distinct().count()


def count_by_state(selection: Selection) -> tuple[int, dict[State, int] | None]:
    """Returns the number of images that match, and of those in each state: None for more than
    MEMBERS_READ, whose rows take too long to read for a page. Raises UsageError as the selection.
    """
    total = count(selection)
    return total, selection.assets().count_by_state() if total <= MEMBERS_READ else None


def count_in_sessions(session_ids: Iterable[int]) -> dict[int, int]:
    """Returns the number of images of each of these sessions that has some."""
    members = SessionImage.objects.filter(session__in=session_ids).order_by()
    return dict(members.values_list("session").annotate(Count("pk")))


def index_ranges(selection: Selection) -> list[IndexRange]:
    """Returns the selection as ranges that are each ordered by an index. They may overlap."""
    sessions = conditions.ids_of_sessions(selection) or []
    if _are_read_in_order(sessions, selection):
        return _ranges_in_sessions(selection, sessions)
    if selection.states:
        return _ranges_in_state(replace(selection, states=None).assets(), selection.states)
    if selection.recipes:
        others = replace(selection, recipes=None).assets().exclude(thumbnail_path="")
        return [IndexRange(others, recipe=recipe) for recipe in selection.recipes]
    return [IndexRange(selection.assets())]


def _are_read_in_order(sessions: Sequence[int], selection: Selection) -> bool:
    """Whether their own order is the way to the selection's images."""
    if not 0 < len(sessions) <= SESSIONS_MERGED:
        return False
    if not selection.states and not selection.recipes:
        return True
    # A state has an index of its own, which may hold a million others before the first of them.
    members = SessionImage.objects.filter(session__in=sessions)
    return members[: MEMBERS_READ + 1].count() <= MEMBERS_READ


def _is_sessions_alone(selection: Selection) -> bool:
    return not selection.is_everything and (
        selection
        in (Selection(session=selection.session), Selection(session_id=selection.session_id))
    )


def _newest_ids(selection: Selection) -> list[QuerySet[Any, tuple[datetime, int]]]:
    """Returns lists of `created_at` and id, each newest first."""
    sessions = conditions.ids_of_sessions(selection) or []
    if _is_sessions_alone(selection) and _are_read_in_order(sessions, selection):
        # From the index alone: nothing about the images themselves is asked.
        members = SessionImage.objects.order_by("-created_at", "-image")
        return [
            members.filter(session=each).values_list("created_at", "image") for each in sessions
        ]
    return [each.newest().values_list("created_at", "pk") for each in index_ranges(selection)]


def _ranges_in_sessions(selection: Selection, sessions: Iterable[int]) -> list[IndexRange]:
    condition = "session" if selection.session_id is None else "session_id"
    assets = replace(selection, **{condition: None}).assets()
    created = Q()
    if selection.from_date:
        created &= Q(memberships__created_at__gte=start_of(selection.from_date))
    if selection.to_date:
        created &= Q(memberships__created_at__lte=end_of(selection.to_date))
    return [
        IndexRange(assets, members=Q(memberships__session=each) & created, session=each)
        for each in sessions
    ]


def _ranges_in_state(assets: ImageAssetQuerySet, states: Iterable[State]) -> list[IndexRange]:
    """As `in_state`, divided into ranges that are each ordered by an index.

    Thumbnails of other recipes are one range per recipe; there are few of these.
    """
    current = recipe_in_force().digest
    has_file = assets.exclude(thumbnail_path="").filter(~assets.failed_now())
    ranges = []
    for state in dict.fromkeys(states):
        if state == State.FRESH:
            whole = has_file.filter(thumbnail_source=F("source_version"))
            ranges.append(IndexRange(whole, recipe=current))
        elif state != State.STALE:
            ranges.append(IndexRange(assets.in_state(state)))
        else:
            others = [recipe for recipe in ImageAsset.objects.recipes() if recipe != current]
            ranges += [IndexRange(has_file, recipe=recipe) for recipe in others]
            changed = has_file.exclude(thumbnail_source=F("source_version"))
            ranges.append(IndexRange(changed.filter(thumbnail_recipe=current)))
    return ranges


def _each_once(rows: Iterable[T]) -> Iterator[T]:
    """Drop those that equal the one before them."""
    return (row for row, _ in groupby(rows))


def _row(columns: Iterable[F | Value]) -> Func:
    """An SQL row value, which compares column by column like an index over these columns."""
    return Func(*columns, template="(%(expressions)s)", output_field=BooleanField())
