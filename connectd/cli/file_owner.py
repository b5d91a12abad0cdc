"""Working as root on files of the daemon's user: in that user's name, and only as long as it takes.

What root makes in another user's directory belongs to root, so that the daemon cannot use it; and whoever may write to
the directory can put a link in the way of whatever root opens, makes or gives away there. As that user, neither can
happen.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from connectd.cli.output import Failed

ROOT = 0


def owner_of(path: str) -> int:
    """The number of the user to whom a file belongs, or its directory where there is no such file.

    :raises OSError: where neither is there, or it is out of reach.
    """
    try:
        # A link counts for what it leads to only where root has put it there.
        return os.lstat(path).st_uid or os.stat(path).st_uid
    except FileNotFoundError:
        return os.stat(os.path.dirname(os.path.abspath(path))).st_uid


def user_name(uid: int) -> str:
    """What the user of that number is called."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"number {uid}"


@contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Inside, root is another user, with that user's groups. Nothing happens where this process is not root's.

    :raises Failed: where root may not become that user.
    """
    if os.geteuid() != ROOT or uid == ROOT:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    try:
        _become(uid)
    except OSError as error:
        with suppress(OSError):
            _be_root(group, groups)
        raise Failed(
            f"root cannot act as the user {user_name(uid)}, to whom the directory belongs: {error.strerror} "
            "(run this as that user)"
        ) from None
    try:
        yield
    finally:
        _be_root(group, groups)


def _be_root(group: int, groups: list[int]) -> None:
    os.seteuid(ROOT)
    os.setegid(group)
    os.setgroups(groups)


def _become(uid: int) -> None:
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        # A user of a container, say: whom no database names.
        group, groups = uid, [uid]
    else:
        group, groups = user.pw_gid, os.getgrouplist(user.pw_name, user.pw_gid)
    os.setgroups(groups)
    os.setegid(group)
    os.seteuid(uid)
