"""The app's exceptions; those of thumbnails carry the reason that the database stores."""

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
    """A thumbnail cannot be made; the message is one sentence for users."""

    reason: Reason


class SourceMissing(ThumbnailError):
    """The original does not exist."""

    reason = Reason.SOURCE_MISSING


class Unreadable(ThumbnailError):
    """The original is damaged and cannot be decoded."""

    reason = Reason.UNREADABLE


class TooLarge(ThumbnailError):
    """The original has more pixels, or a longer header, than the site decodes."""

    reason = Reason.TOO_LARGE


class Unsupported(ThumbnailError):
    """The original's format or colour mode is not supported."""

    reason = Reason.UNSUPPORTED


class StorageFailure(ThumbnailError):
    """Reading from or writing to a storage failed: full disk, lost mount, missing permission."""

    reason = Reason.STORAGE_ERROR


class Crashed(ThumbnailError):
    """The render process crashed, hung or ran out of memory on this original, twice.

    Once is enough while it reads the header, whose limits no ordinary original comes near.
    """

    reason = Reason.CRASHED


class UsageError(Exception):
    """The request cannot be fulfilled as it stands; the message says why in one sentence."""

    def __init__(self, message: str, *, about: str = "") -> None:
        super().__init__(message)
        self.about = about
        """The invalid field of a Selection, if it is one."""


class Busy(Exception):
    """Temporarily impossible: try again soon. The message says why in one sentence."""


class NoThumbnail(Exception):
    """The asset has no thumbnail and none can be rendered; the database has the reason."""


class NotNow(UsageError):
    """The request is valid, but not in the current state."""


class NoSpace(NotNow):
    """The cache clearly lacks the space for what a run would render."""


class NothingFailed(NotNow):
    """There is nothing to retry."""


class AlreadyUnderWay(NotNow):
    """A run over the same selection has not ended: no second one is started."""

    def __init__(self, run: "Run") -> None:
        by = f", started by {run.started_by}," if run.started_by else ""
        state = run.get_state_display().lower()
        super().__init__(f"Nothing was started: {run}{by} does the same and is {state}.")
        self.run = run


class KeyReused(UsageError):
    """The idempotency key was used for a different request."""


class QueueDown(Exception):
    """The queue's server cannot be reached."""


class CdnFailure(Exception):
    """A CDN did not drop its copies; the message says why."""

    def __init__(self, message: str, *, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        """How long it wants to be left alone."""


class NotDispatched(Exception):
    """The run is saved, but the queue cannot be reached: workers pick it up later."""

    def __init__(self, run: "Run") -> None:
        super().__init__(
            f"{run} is saved, but the queue cannot be reached. "
            "It goes on by itself when queue and workers are back."
        )
        self.run = run


class NotFinished(Exception):
    """A command stopped before its run ended and paused it; the message says why."""


class Interrupted(Exception):
    """The process was asked to stop by a signal; the message says what is left to do."""


class TooMany(Exception):
    """A caller is over a rate limit."""

    def __init__(self, wait_seconds: int) -> None:
        super().__init__(f"Too many requests: try again in {wait_seconds} seconds.")
        self.wait_seconds = wait_seconds
