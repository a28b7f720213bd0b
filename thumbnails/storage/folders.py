"""Making folders whose mode does not depend on the process's umask."""

from pathlib import Path


def make_folders(folder: Path, mode: int) -> None:
    """Make the folder and its missing parents, each with exactly this mode.

    An existing folder keeps its mode. Raises OSError.
    """
    if folder.is_dir():
        return
    make_folders(folder.parent, mode)
    try:
        folder.mkdir(mode)
    except FileExistsError:  # another process was faster, or it is not a folder
        if not folder.is_dir():
            raise
    else:
        folder.chmod(mode)
