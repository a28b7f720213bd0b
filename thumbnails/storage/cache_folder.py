"""The cache's folder on a machine with other users.

A user who may write there, or replace the folder, can make this process serve, overwrite and
delete files of that user's choice. So every access opens the folder, checks who may change it,
and continues from its descriptor without following links: what was checked cannot be replaced
afterwards.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from thumbnails import conf
from thumbnails.storage.folders import make_folders

FOLDER_MODE = 0o755
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LINK_ERRORS = {errno.ELOOP, errno.EMLINK}
"""What O_NOFOLLOW fails with; EMLINK on FreeBSD."""
_COMPONENTS_AT_MOST = 1000
"""Of a path with its links resolved: a guard against circular links."""

_checked: dict[str, tuple[int, int]] = {}
"""By location: device and inode of the folder whose parents are known to be safe."""


class UnsafePath(PermissionError):
    """Another user may change or replace the folder."""

    def __init__(self, fault: str, remedy: str) -> None:
        super().__init__(errno.EPERM, f"its folder is not safe, {fault}")
        self.fault = fault
        """What is wrong, as the end of a sentence."""
        self.remedy = remedy
        """What to do about it, in one sentence."""


# --- opening ----------------------------------------------------------------------------------


def open_folder(location: str, inside: str = "") -> int:
    """Returns a descriptor of the folder at `location`, or of the subfolder `inside`.

    Raises UnsafePath if other users may write to one of them, NotADirectoryError for a subfolder
    that is a link, and other OSErrors.
    """
    root = os.open(location, _DIRECTORY)
    try:
        _check_root(location, os.fstat(root))
        if not inside:
            return os.dup(root)
        folder = _open(inside, _DIRECTORY, root)
    finally:
        os.close(root)
    try:
        _check(f"{location}/{inside}", os.fstat(folder))
    except BaseException:
        os.close(folder)
        raise
    return folder


@contextmanager
def opened(location: str, inside: str = "") -> Iterator[int]:
    """As `open_folder`, and closes the descriptor at the end of the block."""
    folder = open_folder(location, inside)
    try:
        yield folder
    finally:
        os.close(folder)


def open_file(name: str, folder: int) -> int:
    """Returns a descriptor for reading a file. Raises NotADirectoryError for a link."""
    # O_NONBLOCK: opening a pipe in a thumbnail's place would wait for its other end.
    return _open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, folder)


def create_file(name: str, folder: int) -> int:
    """Returns a descriptor for writing a new file. Raises FileExistsError."""
    return _open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, folder)


def _open(name: str, flags: int, folder: int) -> int:
    try:
        return os.open(name, flags | os.O_NOFOLLOW, 0o666, dir_fd=folder)
    except OSError as error:
        if error.errno in _LINK_ERRORS:
            raise NotADirectoryError(errno.ENOTDIR, "it is a link", name) from error
        raise


# --- making -----------------------------------------------------------------------------------


def make(location: str, inside: str = "", *, mode: int = FOLDER_MODE) -> None:
    """Make the folder at `location` and the subfolder `inside`, unless they exist.

    Only their owner may write there, whatever the umask is, and their group if
    THUMBNAIL_DIR_GROUP_WRITABLE is on. `mode` is that of the last one.
    """
    try:
        root = open_folder(location)
    except FileNotFoundError:
        _check_parents(location)
        make_folders(Path(location).parent, FOLDER_MODE)
        _mkdir(location, FOLDER_MODE if inside else mode)
        root = open_folder(location)
    try:
        if inside:
            _mkdir(inside, mode, root)
    finally:
        os.close(root)


def _mkdir(name: str, mode: int, folder: int | None = None) -> None:
    try:
        os.mkdir(name, mode, dir_fd=folder)
    except FileExistsError:
        return
    new = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    try:
        # Whatever the umask is; it may have the bit by which the group is inherited.
        mode |= stat.S_IMODE(os.fstat(new).st_mode) & stat.S_ISGID
        if conf.current().dir_group_writable:
            share_with_group(new, mode)
        else:
            os.fchmod(new, mode)
    finally:
        os.close(new)


def share_with_group(descriptor: int, mode: int) -> None:
    """Grant the group the owner's permissions."""
    os.fchmod(descriptor, stat.S_IMODE(mode) | (mode & stat.S_IRWXU) >> 3)


# --- who may change it ------------------------------------------------------------------------


def check(location: str) -> None:
    """Raises UnsafePath if the folder is not safe or, before it exists, would not be."""
    try:
        os.close(open_folder(location))
    except FileNotFoundError:
        _check_parents(location)


def is_trusted(found: os.stat_result) -> bool:
    """Whether it belongs to this process's user, to root or, if the cache is shared by a group,
    to one of this process's groups."""
    if found.st_uid in (os.geteuid(), 0):
        return True
    return conf.current().dir_group_writable and _is_of_our_group(found)


def keep_private(file: int) -> os.stat_result:
    """Returns the lock file's status. Raises UnsafePath if other users may open it.

    Opening a file for reading is enough to lock it against its owner.
    """
    found = os.fstat(file)
    others = stat.S_IRWXO
    if not conf.current().dir_group_writable:
        others |= stat.S_IRWXG
    elif found.st_uid == os.geteuid():
        share_with_group(file, found.st_mode)
    if not is_trusted(found) or found.st_mode & others:
        raise UnsafePath("others may open the file of its locks", "Remove it.")
    return found


def _is_of_our_group(found: os.stat_result) -> bool:
    return found.st_gid == os.getegid() or found.st_gid in os.getgroups()


def _check_root(location: str, found: os.stat_result) -> None:
    identity = (found.st_dev, found.st_ino)
    _check(location, found)
    if _checked.get(location) != identity:  # first access, or the folder was replaced
        _check_parents(location)
        _checked[location] = identity


def _check(path: str, found: os.stat_result) -> None:
    if not is_trusted(found):
        raise UnsafePath(
            "it belongs to another user",
            f"{_remedy(path, f'chown -R {os.geteuid()}')} Where the site runs as the user "
            f"{found.st_uid}, run this as that user, too.",
        )
    if found.st_mode & stat.S_IWOTH:
        raise UnsafePath("everyone may write to it", _remedy(path, "chmod -R go-w"))
    if found.st_mode & stat.S_IWGRP and not (
        conf.current().dir_group_writable and _is_of_our_group(found)
    ):
        raise UnsafePath(
            "its group may write to it",
            f"{_remedy(path, 'chmod -R g-w')} Where a group shares it by intent, set "
            "THUMBNAIL_DIR_GROUP_WRITABLE=on and run this as one of its members.",
        )


def _remedy(path: str, command: str) -> str:
    return (
        f"Remove it or, if you trust everything in it, {command} {path}; or name another folder "
        "in THUMBNAIL_DIR."
    )


def _check_parents(location: str) -> None:
    """Raises UnsafePath if another user may replace a folder or link on the path.

    Less strict than OpenSSH's StrictModes, which accepts no owner but root and the user: a folder
    that is not world-writable is trusted with its owner and group.
    """
    with suppress(FileNotFoundError):  # this process makes the rest of the path
        for folder, entry in islice(_steps_to(Path(location)), _COMPONENTS_AT_MOST):
            _check_step(folder, entry)


def _check_step(folder: Path, entry: Path) -> None:
    above = folder.stat()
    if not above.st_mode & stat.S_IWOTH:
        return
    if not above.st_mode & stat.S_ISVTX:
        raise UnsafePath(
            "everyone may replace a folder above it",
            f"Set the sticky bit (chmod +t {folder}), or name another folder in THUMBNAIL_DIR.",
        )
    # As in /tmp: everyone may add entries, but with the sticky bit replace only their own.
    found = entry.lstat()
    if not is_trusted(found):
        raise UnsafePath(
            "another user may replace a folder above it",
            f"{entry} belongs to the user {found.st_uid}: name another folder in THUMBNAIL_DIR.",
        )


def _steps_to(location: Path) -> Iterator[tuple[Path, Path]]:
    """Yields each folder passed when resolving the path, with the entry looked up in it."""
    folder = Path("/")
    names = [*reversed(location.parts)]
    while names:
        name = names.pop()
        if name == "/":
            folder = Path("/")
        elif name == "..":
            folder = folder.parent
        else:
            yield folder, folder / name
            try:
                names += reversed((folder / name).readlink().parts)
            except OSError:  # not a link, or not there yet
                folder /= name
