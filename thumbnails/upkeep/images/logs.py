"""What is logged of the work on single images."""

import logging

from thumbnails.models import Outcome
from thumbnails.models.results import Result

logger = logging.getLogger(__name__)


def log_result(
    result: Result,
    where: str,
    *,
    seconds: float | None = None,
    run_id: int | None = None,
    level: int = logging.INFO,
) -> None:
    """Log a render, which took that long, or a failure; nothing if there was nothing to do.

    The line's attributes are the same for programs: `image`, `outcome`, `reason`, `seconds`, `run`.
    """
    if result.outcome in (Outcome.FRESH, Outcome.PURGED):
        return
    detail = result.failure.thumbnail_error_detail if result.failure else ""
    reason = result.reason.value if result.reason else ""
    because = ": ".join(filter(None, (f" ({reason}" if reason else "", detail)))
    took = "" if seconds is None else f" in {seconds:.3f} s"
    logger.log(
        level,
        "Image %d: %s %s%s%s",
        result.asset_id,
        result.outcome.value,
        where,
        took,
        f"{because})" if because else "",
        extra={
            "image": result.asset_id,
            "outcome": result.outcome.value,
            "reason": reason,
            **({} if seconds is None else {"seconds": round(seconds, 3)}),
            **({} if run_id is None else {"run": run_id}),
        },
    )
