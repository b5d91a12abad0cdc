"""Protocols, handlers and event sinks by name."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from connectd import registry
from connectd.net import forward as forward_module
from connectd.registry import EventSinkError, HandlerError, PluginError, UnknownProtocol
from connectd.sessions import HOLD
from tests.toy_protocol import ToyHandler, ToyProtocol, ToySink, broken_protocol, install


class ProtocolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.toy = ToyProtocol()
        install(self, self.toy, broken_protocol(), ToyHandler(), ToySink())
        self.messages: list[str] = []
        self.patch(registry, "log", self)

    def error(self, format: str, **values: Any) -> None:
        self.messages.append(format.format(**values))

    warn = error

    def test_names_load_nothing(self) -> None:
        """Names are known of protocols that cannot even be loaded."""
        self.assertEqual(registry.protocol_names(), ["broken", "toy"])
        self.assertEqual(self.messages, [])

    def test_by_name(self) -> None:
        self.assertIs(registry.protocol("toy"), self.toy)

    def test_broken_one_is_left_out(self) -> None:
        """A protocol that does not load is one line, and the others are there."""
        self.assertEqual(registry.protocols(), {"toy": self.toy})
        self.assertEqual(
            self.messages,
            [
                'the protocol "broken" cannot be loaded: ModuleNotFoundError: '
                "No module named 'connectd.protocols.not_there_at_all'"
            ],
        )

    def test_broken_one_by_name(self) -> None:
        error = self.assertRaises(PluginError, registry.protocol, "broken")
        self.assertIn('the protocol "broken" cannot be loaded: ModuleNotFoundError', str(error))

    def test_error_without_words(self) -> None:
        class Silent(ToyProtocol):
            @property
            def settings(self) -> Any:  # type: ignore[override]
                raise ValueError

        install(self, Silent())
        error = self.assertRaises(PluginError, registry.protocol, "toy")
        self.assertEqual(str(error), 'the protocol "toy" cannot be loaded: ValueError')

    def test_no_settings_class(self) -> None:
        for wrong in (dict, None, "settings"):
            self.toy.settings = wrong  # type: ignore[assignment]
            error = self.assertRaises(PluginError, registry.protocol, "toy")
            self.assertEqual(
                str(error), 'the protocol "toy" cannot be used: its settings are no ListenerSettings class'
            )

    def test_unknown(self) -> None:
        error = self.assertRaises(UnknownProtocol, registry.protocol, "toi")
        self.assertEqual(str(error), 'there is no protocol "toi"; known are broken, toy; did you mean "toy"?')

    def test_unknown_and_far_from_all(self) -> None:
        error = self.assertRaises(UnknownProtocol, registry.protocol, "gopher")
        self.assertEqual(str(error), 'there is no protocol "gopher"; known are broken, toy')

    def test_none_at_all(self) -> None:
        install(self)
        error = self.assertRaises(UnknownProtocol, registry.protocol, "toy")
        self.assertEqual(str(error), 'there is no protocol "toy"; none is installed')

    def test_same_name_twice(self) -> None:
        """The first of a name is used, and somebody is told."""
        install(self, self.toy, ToyProtocol())
        self.assertIs(registry.protocol("toy"), self.toy)
        self.assertEqual(self.messages, ["two plugins are called toy: the second one is ignored"])

    def test_nameless(self) -> None:
        class Nameless(ToyProtocol):
            @property
            def name(self) -> str:  # type: ignore[override]
                raise RuntimeError("who\nam I")

        install(self, Nameless(), self.toy)
        self.assertEqual(registry.protocol_names(), ["toy"])
        self.assertEqual(self.messages, ["a plugin of tests.test_registry has no name: RuntimeError: who am I"])


class InstalledTests(SynchronousTestCase):
    def test_protocols_of_connectd(self) -> None:
        """The twisted.plugins file of connectd is found, and every protocol in it can be loaded."""
        names = registry.protocol_names()
        self.assertIn("lekt", names)
        self.assertEqual(list(registry.protocols()), names)


class HandlerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.handler = ToyHandler()
        install(self, self.handler)

    def test_hold(self) -> None:
        self.assertIs(registry.find_handler("hold", None), HOLD)

    def test_plugin(self) -> None:
        self.assertIs(registry.find_handler("arcade", None), self.handler)

    def test_unknown(self) -> None:
        error = self.assertRaises(HandlerError, registry.find_handler, "arkade", None)
        self.assertEqual(
            str(error),
            'there is no handler "arkade"; known are hold, forward:tcp:HOST:PORT, forward:unix:PATH, arcade; '
            'did you mean "arcade"?',
        )

    def test_well_formed_forwards(self) -> None:
        for setting in ("forward:tcp:localhost:1", "forward:tcp:[::1]:65535", "forward:unix:run/backend.sock"):
            registry.check_handler(setting)

    def test_malformed_forwards(self) -> None:
        for setting, problem in [
            ("forward:", "it begins with neither tcp: nor unix:"),
            ("forward:udp:localhost:1", "it begins with neither tcp: nor unix:"),
            ("forward:unix:", "the path is missing"),
            ("forward:tcp:80", "the host or the port is missing"),
            ("forward:tcp:localhost:http", "the port 'http' is not a number from 1 to 65535"),
            ("forward:tcp:localhost:65536", "the port '65536' is not a number from 1 to 65535"),
            ("forward:tcp:::1:9000", "the host '::1' is neither a name nor an address"),
        ]:
            for find in (registry.check_handler, lambda setting: registry.find_handler(setting, None)):
                error = self.assertRaises(HandlerError, find, setting)
                place = setting.removeprefix("forward:")
                self.assertIn(f"the handler \"{setting}\" cannot be used: cannot forward to '{place}': ", str(error))
                self.assertIn(problem, str(error))
                self.assertIn("write tcp:HOST:PORT", str(error))

    def test_forward_gets_its_backend_and_the_reactor(self) -> None:
        made: list[tuple[str, object]] = []

        def forward(endpoint: str, reactor: object) -> str:
            made.append((endpoint, reactor))
            return "the forwarding handler"

        self.patch(forward_module, "Forward", forward)
        reactor = object()
        self.assertEqual(registry.find_handler("forward:tcp:game:99", reactor), "the forwarding handler")
        self.assertEqual(made, [("tcp:game:99", reactor)])


class EventSinkTests(SynchronousTestCase):
    def test_by_name(self) -> None:
        sink = ToySink()
        install(self, sink)
        self.assertIs(registry.event_sink("diary"), sink)
        error = self.assertRaises(EventSinkError, registry.event_sink, "dairy")
        self.assertEqual(str(error), 'there is no event sink "dairy"; known are diary; did you mean "diary"?')
