"""Training sessions by their ids: selections know them by name."""

from thumbnails.exceptions import UsageError
from thumbnails.models import TrainingSession


def session_name(session_id: int | None) -> str | None:
    """Returns the session's name; None for None. Raises UsageError for an unknown id."""
    if session_id is None:
        return None
    name = TrainingSession.objects.filter(pk=session_id).values_list("name", flat=True).first()
    if name is None:
        raise UsageError(f"There is no session with the id {session_id}.", about="session")
    return name
