"""Opening a file without being led out of a folder by a link.

The owner of the folder may replace its contents meanwhile: a file by a link to another user's
image, a folder by a link. So a path is opened component by component without following links, and
no name is looked up twice.
"""

import errno
import os
from pathlib import Path

from thumbnails.exceptions import Unsupported

FOLDER: int = (
    # Where supported: passing through a folder needs no permission to list it.
    getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
)
# Neither waits for the other end of a pipe nor acquires a controlling terminal.
FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
LINK_IN_THE_WAY = {errno.ELOOP, errno.ENOTDIR}
"""What opening a link fails with under O_NOFOLLOW: for a file, for a folder."""


def open_within(path: Path, folder: Path) -> int:
    """Returns a descriptor of the file, open for reading.

    Both paths are absolute, and `folder` has no links. A link is followed if its target is at or
    below `folder`. Raises Unsupported for one that leads out, and OSError.
    """
    try:
        return _open_without_links(path)
    except OSError as error:
        if error.errno not in LINK_IN_THE_WAY:
            raise
    path.stat()  # fails after 40 links, where `realpath` would exhaust Python's stack
    target = Path(os.path.realpath(path, strict=True))
    if not target.is_relative_to(folder):
        raise Unsupported(f"A link leads out of {folder}: only its target can be imported.")
    return _open_without_links(target)


def _open_without_links(path: Path) -> int:
    """Open an absolute path component by component: none can be replaced by a link."""
    root, *folders, name = path.parts
    here = os.open(root, FOLDER)
    try:
        for folder in folders:
            below = os.open(folder, FOLDER, dir_fd=here)
            os.close(here)
            here = below
        return os.open(name, FILE | os.O_NOFOLLOW, dir_fd=here)
    finally:
        os.close(here)
