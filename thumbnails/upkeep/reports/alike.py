"""What an image's original shares with others: the way from one wrong picture to all of its kind.

Each shared fact is a condition of a selection, with plain words for those who report a picture.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from django.db.models import IntegerField, Subquery, Value
from django.db.models.expressions import Combinable

from thumbnails.exceptions import Reason, UsageError
from thumbnails.models import ImageAsset, State, TrainingSession, recipe_in_force
from thumbnails.models.recipes import labels
from thumbnails.rendering import NO_TEXT, Note
from thumbnails.storage import originals
from thumbnails.upkeep.reports import counts
from thumbnails.upkeep.selection import conditions
from thumbnails.upkeep.selection.conditions import SIZE_CLASSES, Selection

COUNTED_AT_MOST = 10_000
"""More images than this are not counted: that would take as long as reading all of them."""
SESSIONS_SHOWN = 5
"""The newest ones of an image."""
OF_PLACE = ("session", "session-id", "root", "recipe")
"""Conditions that say nothing of the original itself."""

ORIENTATIONS = {
    1: "Upright",
    2: "Mirrored by the camera",
    3: "Turned upside down by the camera",
    4: "Mirrored and turned upside down by the camera",
    5: "Mirrored and turned by the camera",
    6: "Turned by the camera",
    7: "Mirrored and turned by the camera",
    8: "Turned by the camera",
}
"""By EXIF's numbers (EXIF 2.3, tag 0x0112)."""
MODES = {
    "1": "Black and white",
    "L": "Grey",
    "LA": "Grey with transparency",
    "P": "Few colours, from a palette",
    "PA": "Few colours, from a palette, with transparency",
    "RGB": "Usual colours",
    "RGBA": "Usual colours with transparency",
    "CMYK": "Colours for print",
    "I": "Grey in fine steps",
    "F": "Grey in fine steps",
}
"""By Pillow's names, without what follows a semicolon, as in I;16."""
COMPRESSIONS = {
    "baseline": "Compressed as JPEGs usually are",
    "progressive": "Appears step by step while it loads",
    "lossy": "Compressed with loss",
    "lossless": "Compressed without loss",
    "none": "Not compressed",
}
NOTES = {Note.TRUNCATED: "The file breaks off"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedFact:
    """A fact of an image that others may share, as the text of a condition."""

    condition: str
    """One of CONDITIONS."""
    text: str
    words: str
    """For people who know nothing of files."""
    is_unusual: bool = False
    """Whether a renderer that is right about most originals may be wrong about these."""
    number: int = 0
    """How many images share it, this one among them; COUNTED_AT_MOST + 1 stands for any more."""
    is_chosen: bool = False

    @property
    def number_text(self) -> str:
        return number_text(self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """What an image shares with others, and how many share all that is chosen."""

    facts: list[SharedFact]
    selection: Selection
    """What is chosen; everything if nothing is."""
    total: int
    """How many images it selects, counted like the numbers of facts; 0 if nothing is chosen."""
    force: bool
    """Whether a run has to render fresh thumbnails to reach this image, as its own is fresh."""

    @property
    def total_text(self) -> str:
        return number_text(self.total)

    @property
    def is_counted(self) -> bool:
        """Whether the total is exact."""
        return self.total <= COUNTED_AT_MOST


def number_text(number: int) -> str:
    """Returns a number of images as counted here: '1,234' or 'more than 10,000'."""
    if number > COUNTED_AT_MOST:
        return f"more than {COUNTED_AT_MOST:,}"
    return f"{number:,}"


def find_alike(asset: ImageAsset, chosen: Mapping[str, str] | None = None) -> Alike:
    """Returns what the image shares with others, each fact with its number of images.

    `chosen` are texts by condition; of these its facts are chosen, others are ignored. By default
    the first unusual fact is, or of an ordinary photo that which the fewest share with it. All is
    counted in one query.
    """
    if chosen is None:
        return _most_telling(asset)
    facts, selection = _choose(asset, chosen)
    *numbers, total = _count([*map(_alone, facts), selection])
    return _alike(asset, _numbered(facts, numbers), selection, total)


def choose_alike(asset: ImageAsset, chosen: Mapping[str, str]) -> Alike:
    """As `find_alike`, but counts only those that share all that is chosen, and no single fact."""
    facts, selection = _choose(asset, chosen)
    return _alike(asset, facts, selection, _count([selection])[0])


def facts_of(asset: ImageAsset) -> list[SharedFact]:
    """Returns the facts of the image that are known, first what tells most of what is wrong."""
    facts = [*_of_failure(asset), *_of_pixels(asset), *_of_file(asset), *_of_place(asset)]
    return [fact for fact in facts if _can_be_selected(fact)]


# --- the facts ------------------------------------------------------------------------------------


def _of_failure(asset: ImageAsset) -> Iterator[SharedFact]:
    if asset.state.is_failure and asset.thumbnail_error in [*Reason]:
        reason = Reason(asset.thumbnail_error)
        words = f"Failed: {reason.label}"
        yield SharedFact(condition="reason", text=reason.value, words=words, is_unusual=True)
    if asset.note in [*Note]:
        words = NOTES[Note(asset.note)]
        yield SharedFact(condition="note", text=asset.note, words=words, is_unusual=True)


def _of_pixels(asset: ImageAsset) -> Iterator[SharedFact]:
    """What decides how an original is decoded."""
    if not asset.format:  # never inspected
        return
    orientation = asset.orientation
    yield SharedFact(
        condition="orientation",
        text=str(orientation),
        words=f"{ORIENTATIONS.get(orientation, 'Turned')} (orientation {orientation})",
        is_unusual=orientation != 1,
    )
    yield SharedFact(
        condition="mode",
        text=asset.mode,
        words=f"{MODES.get(asset.mode.partition(';')[0], 'Colours')} (mode {asset.mode})",
        is_unusual=asset.mode != "RGB",
    )
    yield SharedFact(
        condition="format",
        text=asset.format,
        words=f"{asset.format} file",
        is_unusual=asset.format != "JPEG",
    )
    if asset.facts_version:
        yield from _of_header(asset)
    if asset.width and asset.height:
        yield _of_size(asset.width * asset.height)


def _of_header(asset: ImageAsset) -> Iterator[SharedFact]:
    profile, depth = asset.color_profile, asset.bit_depth
    yield SharedFact(
        condition="profile",
        text=profile or NO_TEXT,
        words=f"Colour profile {profile}" if profile else "No colour profile",
        is_unusual=bool(profile) and "srgb" not in profile.casefold(),
    )
    if depth:
        words = f"{depth} bit{'' if depth == 1 else 's'} a channel"
        yield SharedFact(condition="bit-depth", text=str(depth), words=words, is_unusual=depth != 8)
    if asset.has_alpha is not None:
        yield SharedFact(
            condition="alpha",
            text="yes" if asset.has_alpha else "no",
            words="May be transparent" if asset.has_alpha else "Not transparent",
            is_unusual=asset.has_alpha,
        )
    if compression := asset.compression:
        words = f"{COMPRESSIONS.get(compression, 'Compressed')} ({compression})"
        yield SharedFact(condition="compression", text=compression, words=words)
    if (asset.frames or 1) > 1:
        words = "Several frames or pages"
        yield SharedFact(condition="frames", text="2-", words=words, is_unusual=True)


def _of_size(pixels: int) -> SharedFact:
    at_least, below = [pair for pair in SIZE_CLASSES if pixels >= pair[0] * 1e6][-1]
    size = Selection(min_megapixels=at_least, max_megapixels=below)
    to = "or more" if below is None else f"to {below:g}"
    return SharedFact(
        condition="megapixels",
        text=size.as_texts()["megapixels"],
        words=f"{at_least:g} {to} megapixels",
    )


def _of_file(asset: ImageAsset) -> Iterator[SharedFact]:
    if asset.camera:
        yield SharedFact(condition="camera", text=asset.camera, words=f"Taken by {asset.camera}")
    if asset.software:
        words = f"Written by {asset.software}"
        yield SharedFact(condition="software", text=asset.software, words=words)


def _of_place(asset: ImageAsset) -> Iterator[SharedFact]:
    """Where it stands: what rarely makes a renderer wrong."""
    sessions = TrainingSession.objects.told_apart().filter(assets=asset).order_by("-pk")
    facts = [_of_session(session) for session in sessions[:SESSIONS_SHOWN]]
    yield from sorted(facts, key=lambda fact: fact.condition)
    if root := originals.root_of(str(asset)):
        yield SharedFact(condition="root", text=root, words=f"Its file is in the folder {root}")
    if asset.thumbnail_path and (digest := asset.thumbnail_recipe):
        made = labels().get(digest, digest)
        now = ", as all are now" if digest == recipe_in_force().digest else ""
        words = f"Thumbnail made by the recipe {made}{now}"
        yield SharedFact(condition="recipe", text=digest, words=words)


def _of_session(session: TrainingSession) -> SharedFact:
    fields = conditions.fields_of_session(session.pk)
    ((condition, text),) = Selection(**fields).as_texts().items()
    return SharedFact(condition=condition, text=text, words=f"In the session {session}")


# --- choosing and counting ------------------------------------------------------------------------


class _Number(Subquery):
    """The number of rows of a sliced queryset, which reads no further than the slice."""

    template = "(SELECT COUNT(*) FROM (%(subquery)s) AS counted)"
    output_field = IntegerField()


def _choose(asset: ImageAsset, chosen: Mapping[str, str]) -> tuple[list[SharedFact], Selection]:
    """The image's facts, and what those select that are chosen: everything if none is."""
    facts = [
        replace(fact, is_chosen=chosen.get(fact.condition) == fact.text) for fact in facts_of(asset)
    ]
    texts = {fact.condition: fact.text for fact in facts if fact.is_chosen}
    return facts, conditions.selection_from(texts)


def _most_telling(asset: ImageAsset) -> Alike:
    facts = facts_of(asset)
    facts = _numbered(facts, _count(map(_alone, facts)))
    telling = next((fact for fact in facts if fact.is_unusual), None) or _rarest(facts)
    if telling is None:
        return _alike(asset, facts, Selection(), 0)
    facts = [replace(fact, is_chosen=fact is telling) for fact in facts]
    return _alike(asset, facts, _alone(telling), telling.number)


def _alike(asset: ImageAsset, facts: list[SharedFact], selection: Selection, total: int) -> Alike:
    return Alike(
        facts=facts,
        selection=selection,
        total=0 if selection.is_everything else total,
        force=asset.state == State.FRESH,
    )


def _numbered(facts: Iterable[SharedFact], numbers: Iterable[int]) -> list[SharedFact]:
    return [replace(fact, number=number) for fact, number in zip(facts, numbers, strict=True)]


def _can_be_selected(fact: SharedFact) -> bool:
    """Whether it is a value of its condition: an older version may have recorded others."""
    try:
        return bool(_alone(fact))
    except UsageError:
        return False


def _alone(fact: SharedFact) -> Selection:
    return conditions.selection_from({fact.condition: fact.text})


def _rarest(facts: Iterable[SharedFact]) -> SharedFact | None:
    """Of those about the originals themselves that others share and that are counted to the end."""
    shared = [
        fact
        for fact in facts
        if 1 < fact.number <= COUNTED_AT_MOST and fact.condition not in OF_PLACE
    ]
    return min(shared, key=lambda fact: fact.number, default=None)


def _number_of(selection: Selection) -> Combinable:
    # No index knows sizes, so that those of few images take long to count.
    is_by_size = selection.min_megapixels is not None
    known = counts.number_of(selection) if is_by_size else None
    if known is not None:
        return Value(min(known, COUNTED_AT_MOST + 1))
    return _Number(selection.assets().order_by().values("pk")[: COUNTED_AT_MOST + 1])


def _count(selections: Iterable[Selection]) -> list[int]:
    """Returns how many images each selects, COUNTED_AT_MOST + 1 standing for any more. One query,
    besides those for sessions and cached counts."""
    numbers = [_number_of(selection) for selection in selections]
    if not numbers:
        return []
    # Any row carries them.
    rows = ImageAsset.objects.order_by().values_list(*numbers)[:1]
    return list(next(iter(rows), [0] * len(numbers)))
