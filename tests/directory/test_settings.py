"""The ``[directory]`` table."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from connectd.directory import DirectorySettings, MissingKeyError


class SettingsTests(SynchronousTestCase):
    def test_paths(self) -> None:
        """Three slashes are relative to the configuration's folder, four are absolute."""
        for url, expected in (
            ("sqlite:///state/connectd.db", "/etc/connectd/state/connectd.db"),
            ("sqlite:////var/lib/connectd.db", "/var/lib/connectd.db"),
            ("sqlite:///a%20b.db", "/etc/connectd/a b.db"),
            ("sqlite:///../x.db", "/etc/x.db"),
        ):
            self.assertEqual(DirectorySettings(url=url).database_path("/etc/connectd"), expected)
        self.assertEqual(DirectorySettings().database_path("/etc/connectd"), "/etc/connectd/state/connectd.db")

    def test_wrong(self) -> None:
        for url in ("", "sqlite:///", "sqlite://x.db", "postgresql://localhost/x", "/var/lib/x.db"):
            error = self.assertRaises(ValueError, DirectorySettings, url=url)
            self.assertIn("write sqlite:///PATH", str(error))
        self.assertRaises(ValueError, DirectorySettings, poll_interval=0.0)
        self.assertRaises(ValueError, DirectorySettings, maximum_keys=-1)

    def test_keys(self) -> None:
        self.assertEqual(DirectorySettings(key_file="/x/k").keys().path, "/x/k")
        settings = DirectorySettings(key_credential="k")
        self.patch(os, "environ", {"CREDENTIALS_DIRECTORY": "/run/credentials/connectd"})
        keys = settings.keys()
        self.assertEqual((keys.path, keys.credential), ("/run/credentials/connectd/k", True))
        self.patch(os, "environ", {})
        self.assertRaises(MissingKeyError, settings.keys)
