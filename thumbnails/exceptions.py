"""What can go wrong with a thumbnail, each with the reason that the database keeps."""

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thumbnails.models import Run


class Reason(StrEnum):
    """Why an asset has no thumbnail."""

    SOURCE_MISSING = "source_missing"
    UNREADABLE = "unreadable"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    STORAGE_ERROR = "storage_error"
    CRASHED = "crashed"

    @property
    def label(self) -> str:
        return self.value.replace("_", " ")


class ThumbnailError(Exception):
    """A thumbnail cannot be had; the message is one sentence for people."""

    reason: Reason


class SourceMissing(ThumbnailError):
    """The original is gone."""

    reason = Reason.SOURCE_MISSING


class Unreadable(ThumbnailError):
    """The original is damaged: its decoder gave up."""

    reason = Reason.UNREADABLE


class TooLarge(ThumbnailError):
    """The original has more pixels than the site decodes."""

    reason = Reason.TOO_LARGE


class Unsupported(ThumbnailError):
    """The original is in no format, or no colour mode, that the site decodes."""

    reason = Reason.UNSUPPORTED


class StorageFailure(ThumbnailError):
    """A storage did not read or write: a full disk, a lost mount, missing rights."""

    reason = Reason.STORAGE_ERROR


class Crashed(ThumbnailError):
    """The original killed, hung or burst the process that decoded it, twice, alone in it."""

    reason = Reason.CRASHED


class UsageError(Exception):
    """Somebody asked for what cannot be done; the message says so in one sentence."""

    def __init__(self, message: str, *, about: str = "") -> None:
        super().__init__(message)
        self.about = about
        """The field of a Selection that is at fault, where it is one."""


class Busy(Exception):
    """It cannot be done at this moment, and soon it can; the message says why in one sentence."""


class NoThumbnail(Exception):
    """There is none to be had; the reason stands in the database."""


class NotNow(UsageError):
    """What was asked for is right, but not in the state that things are in."""


class NoSpace(NotNow):
    """The cache has plainly no room for what a run would render."""


class AlreadyUnderWay(NotNow):
    """A run over the same selection is not over yet: no second one is started."""

    def __init__(self, run: "Run") -> None:
        by = f", started by {run.started_by}," if run.started_by else ""
        state = run.get_state_display().lower()
        super().__init__(f"Nothing was started: {run}{by} does the same and is {state}.")
        self.run = run


class KeyReused(UsageError):
    """A request has the idempotency key of a different one."""


class QueueDown(Exception):
    """The queue's server cannot be reached."""


class NotDispatched(Exception):
    """The run is saved, but the queue cannot be reached: the workers find it later."""

    def __init__(self, run: "Run") -> None:
        super().__init__(
            f"{run} is saved, but the queue cannot be reached. "
            "It goes on by itself when queue and workers are back."
        )
        self.run = run


class NotFinished(Exception):
    """A command stops working on its run, which is paused; the message says why."""


class Interrupted(Exception):
    """The process was asked to stop by a signal; the message says what was left."""


class TooMany(Exception):
    """A caller is over a rate limit."""

    def __init__(self, wait_seconds: int) -> None:
        super().__init__(f"Too many requests: try again in {wait_seconds} seconds.")
        self.wait_seconds = wait_seconds
