"""Whose files they are under twistd --uid."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from connectd.ops import ownership
from connectd.ops.ownership import Owner


class FromOptionsTests(SynchronousTestCase):
    """The target user of the runner's options."""

    def setUp(self) -> None:
        self.patch(os, "geteuid", lambda: 0)

    def test_nobody_else(self) -> None:
        self.assertIsNone(Owner.from_options({}))
        self.assertIsNone(Owner.from_options({"uid": None, "gid": None}))

    def test_both(self) -> None:
        self.assertEqual(Owner.from_options({"uid": 12, "gid": 34}), Owner(12, 34))

    def test_user_alone(self) -> None:
        """The group is the user's own, as for twistd."""
        self.assertEqual(Owner.from_options({"uid": 0, "gid": None}), Owner(0, 0))
        self.patch(ownership, "_group_of", lambda uid: uid + 1)
        self.assertEqual(Owner.from_options({"uid": 5, "gid": None}), Owner(5, 6))

    def test_user_without_a_name(self) -> None:
        self.assertEqual(Owner.from_options({"uid": 2**31 - 5, "gid": None}), Owner(2**31 - 5, -1))

    def test_group_alone(self) -> None:
        self.assertEqual(Owner.from_options({"uid": None, "gid": 34}), Owner(-1, 34))

    def test_not_root(self) -> None:
        """Without the right to give anything away twistd says so itself."""
        self.patch(os, "geteuid", lambda: 1000)
        self.assertIsNone(Owner.from_options({"uid": 12, "gid": 34}))


class GiveTests(SynchronousTestCase):
    """What may be given away, and what not."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.file = self.folder / "file"
        self.file.touch()
        self.owner = Owner(os.geteuid(), os.getegid())

    def test_link(self) -> None:
        """A link could lead to any file of the system."""
        link = self.folder / "link"
        link.symlink_to("/etc/passwd")
        with self.assertRaises(PermissionError):
            self.owner.give(str(link))

    def test_second_name(self) -> None:
        """So could a hard link."""
        (self.folder / "same").hardlink_to(self.file)
        with self.assertRaises(PermissionError) as caught:
            self.owner.give(str(self.file))
        self.assertIn("second name", str(caught.exception))

    def test_theirs_already(self) -> None:
        """Nothing is changed, so that no right is needed."""
        self.patch(os, "chown", None)
        self.owner.give(str(self.file))
        Owner(-1, -1).give(str(self.file))

    def test_missing(self) -> None:
        with self.assertRaises(FileNotFoundError):
            self.owner.give(str(self.folder / "none"))

    def test_given(self) -> None:
        if os.geteuid() != 0:
            raise SkipTest("only root can give files away")
        path = str(self.folder / "socket")
        os.mknod(path, stat.S_IFSOCK | 0o600)
        for given in (path, str(self.file), str(self.folder)):
            Owner(12, 34).give(given)
            status = os.lstat(given)
            self.assertEqual((status.st_uid, status.st_gid), (12, 34), given)
        Owner(-1, 56).give(path)
        self.assertEqual((os.lstat(path).st_uid, os.lstat(path).st_gid), (12, 56))

    def test_without_path_descriptors(self) -> None:
        """On other systems than Linux the name itself is changed, and no link followed."""
        calls: list[object] = []
        self.patch(os, "chown", lambda path, uid, gid, follow_symlinks: calls.append((path, uid, gid, follow_symlinks)))
        o_path = os.O_PATH
        del os.O_PATH
        self.addCleanup(setattr, os, "O_PATH", o_path)
        Owner(12, 34).give(str(self.file))
        self.assertEqual(calls, [(str(self.file), 12, 34, False)])


class ActingTests(SynchronousTestCase):
    """What is done in the user's name."""

    def test_files(self) -> None:
        """They are the user's, where the user may make them; then root is root again."""
        if os.geteuid() != 0:
            raise SkipTest("only root can act as somebody else")
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        folder.chmod(0o755)
        ours, theirs = folder / "ours", folder / "theirs"
        ours.mkdir()
        theirs.mkdir()
        os.chown(theirs, 12, 34)
        before = (os.geteuid(), os.getegid(), os.getgroups())
        with Owner(12, 34).acting():
            (theirs / "file").touch()
            with self.assertRaises(PermissionError):
                (ours / "file").touch()
            self.assertEqual((os.geteuid(), os.getegid(), os.getgroups()), (12, 34, _groups(12, 34)))
        self.assertEqual((os.geteuid(), os.getegid(), os.getgroups()), before)
        self.assertEqual(((theirs / "file").stat().st_uid, (theirs / "file").stat().st_gid), (12, 34))

    def recorded(self) -> list[object]:
        """What the system is asked for."""
        calls: list[object] = []
        for name in ("seteuid", "setegid", "setgroups"):
            self.patch(os, name, lambda value, name=name: calls.append((name, value)))
        self.patch(os, "getegid", lambda: 7)
        self.patch(os, "getgroups", lambda: [7, 8])
        return calls

    def test_order(self) -> None:
        """The groups first, for a user may not change them; and back after whatever happens."""
        calls = self.recorded()
        user = 2**31 - 5  # whom nothing names
        with self.assertRaises(ZeroDivisionError), Owner(user, 34).acting():
            raise ZeroDivisionError
        there: list[object] = [("setgroups", [34]), ("setegid", 34), ("seteuid", user)]
        back: list[object] = [("seteuid", 0), ("setegid", 7), ("setgroups", [7, 8])]
        self.assertEqual(calls, there + back)

    def test_parts(self) -> None:
        """A user without a group, and a group without a user."""
        calls = self.recorded()
        with Owner(12, -1).acting():
            self.assertEqual(calls, [("seteuid", 12)])
        del calls[:]
        with Owner(-1, 34).acting():
            self.assertEqual(calls, [("setgroups", [34]), ("setegid", 34)])

    def test_not_allowed(self) -> None:
        """Root without the right to be others stays as it is."""
        calls = self.recorded()

        def fail(value: object) -> None:
            if value != 0:
                raise PermissionError(1, "Operation not permitted")

        self.patch(os, "seteuid", fail)
        with self.assertRaises(PermissionError), Owner(12, 34).acting():
            raise AssertionError("it acts")
        self.assertEqual(calls[-2:], [("setegid", 7), ("setgroups", [7, 8])])


def _groups(uid: int, gid: int) -> list[int]:
    """The groups that the system's own files give a user."""
    try:
        return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        return [gid]
