"""Whose files they are when the daemon starts as root and goes on as somebody else (``twistd --uid``)."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs


@attrs.frozen
class Owner:
    """The user and group that the process will have.

    :param uid: the user's number, or -1 to leave it.
    :param gid: the group's number, or -1 to leave it.
    """

    uid: int
    gid: int

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Owner | None:
        """The target of ``--uid`` and ``--gid``, or None where nothing is to change hands.

        :param options: the runner's; those of ``twist`` have neither.
        """
        uid, gid = options.get("uid"), options.get("gid")
        if os.geteuid() != 0:
            return None
        if uid is None:
            return None if gid is None else cls(-1, gid)
        return cls(uid, _group_of(uid) if gid is None else gid)

    def give(self, path: str) -> None:
        """Make a file, directory or socket theirs: never what a link leads to, nor a file that has a second name.

        Such a name could be the work of the very user who is to get the file.

        :raises OSError: where that cannot be done.
        """
        if not hasattr(os, "O_PATH"):
            os.chown(path, self.uid, self.gid, follow_symlinks=False)
            return
        # Look at and change one and the same inode, whatever happens to its name meanwhile.
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if stat.S_ISLNK(status.st_mode) or (not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1):
                raise PermissionError(
                    1, "it is a link or has a second name, and is not given away (put the file itself there)", path
                )
            if self.uid not in (-1, status.st_uid) or self.gid not in (-1, status.st_gid):
                os.chown(f"/proc/self/fd/{descriptor}", self.uid, self.gid)
        finally:
            os.close(descriptor)

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Inside, root is that user, with that user's groups.

        For what would follow a link that the user has put into a directory of their own, and for files that are to
        be theirs from the beginning.

        :raises OSError: where root may not become that user.
        """
        group, groups = os.getegid(), os.getgroups()
        try:
            if self.gid != -1:
                os.setgroups(_groups_of(self.uid, self.gid))
                os.setegid(self.gid)
            if self.uid != -1:
                os.seteuid(self.uid)
            yield
        finally:
            os.seteuid(0)
            os.setegid(group)
            os.setgroups(groups)


def _groups_of(uid: int, gid: int) -> list[int]:
    try:
        return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except (KeyError, OverflowError):
        # A user whom nothing names, such as a container's, or none at all.
        return [gid]


def _group_of(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return -1
