"""Configuration files: what they make, and every mistake in them."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from unittest import skipIf

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.admission.limits import AdmissionLimits
from connectd.config import Configuration, ConfigurationError, DaemonSettings, ListenerConfiguration, load
from connectd.directory.settings import DirectorySettings
from tests import toy
from tests.toy_protocol import ToyHandler, ToyProtocol, ToySettings, ToySink, broken_protocol, install

LISTENER = '[[listener]]\nprotocol = "toy"\nlisten = "tcp:7000:interface=127.0.0.1"\n'


class LoadCase(SynchronousTestCase):
    def setUp(self) -> None:
        install(self, ToyProtocol(), ToyHandler(), ToySink(), broken_protocol())
        # Unix sockets are named in it, and trial's own directories can be too long for them.
        self.folder = Path(tempfile.mkdtemp(prefix="connectd-test-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.file = self.folder / "connectd.toml"

    def load(self, text: str | bytes) -> Configuration:
        self.file.write_bytes(text.encode() if isinstance(text, str) else text)
        return load(self.file)

    def problems(self, text: str | bytes) -> list[str]:
        """The problems of a configuration, without the file's name."""
        error = self.assertRaises(ConfigurationError, self.load, text)
        prefix = f"{self.file}: "
        for problem in error.problems:
            self.assertTrue(problem.startswith(prefix), problem)
            self.assertEqual(len(problem.splitlines()), 1, problem)
        return [problem.removeprefix(prefix) for problem in error.problems]


class GoodFileTests(LoadCase):
    def test_defaults(self) -> None:
        """What is not said has its default; relative paths are relative to the file."""
        loaded = self.load(LISTENER)
        self.assertEqual(
            loaded,
            Configuration(
                DaemonSettings(state_dir=str(self.folder / "state"), admin=f"unix:{self.folder}/state/admin.sock"),
                AdmissionLimits(),
                (ListenerConfiguration("toy", ToySettings(listen="tcp:7000:interface=127.0.0.1")),),
                DirectorySettings(
                    url=f"sqlite:///{self.folder}/state/connectd.db", key_file=f"{self.folder}/state/directory.key"
                ),
            ),
        )

    def test_values(self) -> None:
        loaded = self.load(
            '[daemon]\nstatus = ""\nadmin = ""\nevents = "events.jsonl"\nevent_sinks = ["diary"]\nlog = "json"\n'
            "drain_timeout = 3\n"
            '[admission]\nmax_connections = 5\ndeny = ["192.0.2.0/24"]\n'
            '[[listener]]\nprotocol = "toy"\nlisten = "unix:run/toy.sock:mode=660"\nhandler = "arcade"\n'
            '[[listener]]\nprotocol = "toy"\nlisten = "unix:/run/toy.sock"\nhandler = "forward:unix:run/back:end.sock"\n'
            'certificate = "toy.pem"\nextra_files = ["a", "/b", "../c"]\n'
        )
        self.assertEqual(
            loaded.daemon,
            DaemonSettings(
                state_dir=str(self.folder / "state"),
                status="",
                admin="",
                events=str(self.folder / "events.jsonl"),
                event_sinks=("diary",),
                log="json",
                drain_timeout=3.0,
            ),
        )
        self.assertEqual(loaded.admission.max_connections, 5)
        first, second = (listener.settings for listener in loaded.listeners)
        assert isinstance(second, ToySettings)
        self.assertEqual(first.listen, f"unix:{self.folder}/run/toy.sock:mode=660")
        self.assertEqual(first.handler, "arcade")
        self.assertEqual(second.listen, "unix:/run/toy.sock")
        self.assertEqual(second.handler, f"forward:unix:{self.folder}/run/back:end.sock")
        self.assertEqual(second.certificate, str(self.folder / "toy.pem"))
        self.assertEqual(second.extra_files, (str(self.folder / "a"), "/b", str(self.folder.parent / "c")))

    def test_directory(self) -> None:
        """Where the database is comes out the same however it is written."""
        for url, path in (
            ("sqlite:///x%20y.db", f"{self.folder}/x y.db"),
            ("sqlite:///../x.db", f"{self.folder.parent}/x.db"),
            ("sqlite:////var/x.db", "/var/x.db"),
        ):
            loaded = self.load(f'[directory]\nurl = "{url}"\nkey_file = "/etc/key"\n{LISTENER}')
            assert loaded.directory is not None
            self.assertEqual(loaded.directory.database_path("/elsewhere"), path)
            self.assertEqual(loaded.directory.keys().path, "/etc/key")

    def test_checkers(self) -> None:
        """Files of checkers are relative to the configuration as well, and stay unsaid (COM-9)."""
        protocol = ToyProtocol()
        protocol.settings = toy.ToySettings
        install(self, protocol)
        loaded = self.load(f'{LISTENER}auth = ["file:accounts", "memory:ann:file:x"]\n')
        [listener] = loaded.listeners
        assert isinstance(listener.settings, toy.ToySettings)
        self.assertEqual(listener.settings.auth, (f"file:{self.folder}/accounts", "memory:ann:file:x"))
        self.assertNotIn("memory", repr(loaded))

    def test_relative_to_the_file_whatever_the_working_directory(self) -> None:
        self.file.write_text(LISTENER)
        loaded = load(os.path.relpath(self.file))
        self.assertEqual(loaded.daemon.state_dir, str(self.folder / "state"))


class FileTests(LoadCase):
    def test_missing(self) -> None:
        error = self.assertRaises(ConfigurationError, load, "no/such/file.toml")
        self.assertEqual(
            error.problems,
            [
                "no/such/file.toml: cannot be read: No such file or directory "
                "(connectctl init makes one, --config names another)"
            ],
        )

    def test_directory(self) -> None:
        error = self.assertRaises(ConfigurationError, load, str(self.folder))
        self.assertEqual(error.problems, [f"{self.folder}: cannot be read: Is a directory"])

    @skipIf(os.geteuid() == 0, "root may read everything")
    def test_unreadable(self) -> None:
        self.file.touch(0)
        error = self.assertRaises(ConfigurationError, load, self.file)
        self.assertEqual(error.problems, [f"{self.file}: cannot be read: Permission denied"])

    def test_not_text(self) -> None:
        self.assertEqual(self.problems(b"# \xff"), ["is not UTF-8 text: byte 3 is wrong"])

    def test_not_toml(self) -> None:
        """The line and the column of the first mistake are told."""
        [problem] = self.problems("[daemon]\nlog text\n")
        self.assertEqual(problem, "is not TOML: Expected '=' after a key in a key/value pair (at line 2, column 5)")

    def test_nested_too_deeply(self) -> None:
        [problem] = self.problems("a = " + "[" * 20_000)
        self.assertTrue(problem.startswith(("is nested too deeply", "is not TOML: ")), problem)

    def test_endless_number(self) -> None:
        [problem] = self.problems("a = " + "1" * 5000)
        self.assertIn("is not TOML: Exceeds the limit", problem)

    @settings(deadline=None, max_examples=60)
    @given(st.binary(max_size=60) | st.text(alphabet='[]listenr."=\n1{},t-', max_size=60).map(str.encode))
    def test_anything(self, data: bytes) -> None:
        """Whatever is in the file, loading ends with problems of one line each."""
        self.problems(data)


class MistakeTests(LoadCase):
    def test_no_listener(self) -> None:
        self.assertEqual(self.problems(""), ["there is no listener: write [[listener]] with at least a protocol"])

    def test_unknown_table(self) -> None:
        self.assertEqual(
            self.problems(f"gopher = 1\n[deamon]\n{LISTENER}[[listeners]]\n"),
            [
                "gopher: unknown table",
                'deamon: unknown table; did you mean "daemon"?',
                'listeners: unknown table; did you mean "listener"?',
            ],
        )

    def test_no_tables(self) -> None:
        self.assertEqual(
            self.problems(f"daemon = 1\n{LISTENER}[[admission]]\n"),
            ["[daemon]: must be a table", "[admission]: must be a table, with single brackets"],
        )
        self.assertEqual(
            self.problems("[listener]\n"), ["[listener]: write [[listener]], with double brackets, for each listener"]
        )
        for wrong in ("listener = 5\n", "listener = [1]\n"):
            self.assertEqual(self.problems(wrong), ["listener: must be tables: write [[listener]] for each listener"])

    def test_protocol(self) -> None:
        [missing, wrong, unknown, broken] = self.problems(
            '[[listener]]\n[[listener]]\nprotocol = 5\n[[listener]]\nprotocol = "toi"\n'
            '[[listener]]\nprotocol = "broken"\n'
        )
        self.assertEqual(missing, "[[listener]] 1: protocol: is missing; known are broken, toy")
        self.assertEqual(wrong, "[[listener]] 2: protocol: must be text in quotes; known are broken, toy")
        self.assertEqual(
            unknown,
            '[[listener]] 3: protocol: there is no protocol "toi"; known are broken, toy; did you mean "toy"?',
        )
        self.assertIn('[[listener]] 4: protocol: the protocol "broken" cannot be loaded: ModuleNotFound', broken)

    def test_all_at_once(self) -> None:
        """Mistakes in every part of the file are told together, in its order."""
        self.assertEqual(
            self.problems(
                '[daemon]\nlog = "xml"\ndrain_timeout = "long"\n'
                "[admission]\nmax_conections = 1\nipv4_prefix = 33\n"
                '[[listener]]\nprotocol = "toy"\nlisten = "tcp:7000"\nperiood = 5\n'
                '[[listener]]\nprotocol = "toy"\nlisten = "tcp:7001"\nperiod = 0.1\n'
            ),
            [
                '[daemon]: drain_timeout: must be a number, not the text "long"',
                '[daemon]: log: "xml" is not one of text, json',
                '[admission]: max_conections: unknown key; did you mean "max_connections"?',
                "[admission]: ipv4_prefix: 33 is out of range: 1 to 32",
                '[[listener]] 1 (toy): periood: unknown key; did you mean "period"?',
                "[[listener]] 2 (toy): period: 0.1 is out of range: 0.5 to 60",
            ],
        )

    def test_listen(self) -> None:
        missing, wrong = self.problems(
            '[[listener]]\nprotocol = "toy"\n[[listener]]\nprotocol = "toy"\nlisten = "7000"\n'
        )
        self.assertEqual(
            missing,
            '[[listener]] 1 (toy): listen: is missing; write where, such as listen = "tcp:7000:interface=127.0.0.1"',
        )
        self.assertTrue(wrong.startswith("[[listener]] 2 (toy): listen: cannot read endpoint "), wrong)

    def test_handler(self) -> None:
        unknown, malformed = self.problems(
            f'{LISTENER}handler = "arcad"\n'
            '[[listener]]\nprotocol = "toy"\nlisten = "tcp:7001"\nhandler = "forward:tcp:7001"\n'
        )
        self.assertEqual(
            unknown,
            '[[listener]] 1 (toy): handler: there is no handler "arcad"; known are hold, forward:tcp:HOST:PORT, '
            'forward:unix:PATH, arcade; did you mean "arcade"?',
        )
        self.assertEqual(
            malformed,
            "[[listener]] 2 (toy): handler: the handler \"forward:tcp:7001\" cannot be used: cannot forward to 'tcp:7001': "
            "the host or the port is missing (write tcp:HOST:PORT, with an IPv6 address in brackets, or unix:PATH)",
        )

    def test_directory(self) -> None:
        self.assertEqual(
            self.problems(f'[directory]\nurl = "postgres://x"\nkey = "x"\n{LISTENER}'),
            [
                "[directory]: key: unknown key",
                "[directory]: url: 'postgres://x' is not the URL of a database; write sqlite:///PATH (four slashes for "
                "an absolute path)",
            ],
        )

    def test_event_sink(self) -> None:
        self.assertEqual(
            self.problems(f'[daemon]\nevent_sinks = ["diary", "dairy"]\n{LISTENER}'),
            ['[daemon]: event_sinks: there is no event sink "dairy"; known are diary; did you mean "diary"?'],
        )

    def test_daemon_places(self) -> None:
        admin, status = self.problems(f'[daemon]\nadmin = "here"\nstatus = "udp:8025"\n{LISTENER}')
        self.assertTrue(admin.startswith("[daemon]: admin: cannot read endpoint "), admin)
        self.assertEqual(status, "[daemon]: status: udp:8025 cannot be used here; write tcp:, unix:, systemd:")

    def test_admin_on_a_port(self) -> None:
        """The admin socket is protected by nothing but its file's permissions."""
        self.assertEqual(
            self.problems(f'[daemon]\nadmin = "tcp:9999:interface=127.0.0.1"\n{LISTENER}'),
            ["[daemon]: admin: tcp:9999:interface=127.0.0.1 cannot be used here; write unix:, systemd:"],
        )

    def test_same_place_twice(self) -> None:
        self.assertEqual(
            self.problems(
                f'{LISTENER}udp = "udp:7000"\n{LISTENER}[[listener]]\nprotocol = "toy"\nlisten = "tcp:7000"\n'
                '[[listener]]\nprotocol = "toy"\nlisten = "tcp:8025"\n'
                '[[listener]]\nprotocol = "toy"\nlisten = "unix:state/../state/admin.sock"\n'
            ),
            [
                "[[listener]] 2 (toy): listen: tcp:7000:interface=127.0.0.1 is the same place as "
                "[[listener]] 1 (toy): listen; one of them has to move",
                "[[listener]] 3 (toy): listen: tcp:7000 overlaps with tcp:7000:interface=127.0.0.1 of "
                "[[listener]] 1 (toy): listen; one of them has to move",
                "[[listener]] 4 (toy): listen: tcp:8025 overlaps with tcp:8025:interface=127.0.0.1 of "
                "[daemon]: status; one of them has to move",
                f"[[listener]] 5 (toy): listen: unix:{self.folder}/state/admin.sock is the same place as "
                "[daemon]: admin; one of them has to move",
            ],
        )

    def test_secret(self) -> None:
        """COM-9: a wrong secret is not told."""
        self.assertEqual(
            self.problems(f'{LISTENER}password = "1234"\n'),
            ["[[listener]] 1 (toy): password: is not allowed here (the value is secret and not shown)"],
        )
