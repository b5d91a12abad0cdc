"""Tests of the client: its URLs, what it does when things go wrong, and what a server may not make it do."""

from __future__ import annotations

import os
from typing import Any
from uuid import UUID

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from connectd.interfaces import IProtocol
from connectd.net.client import ConnectionEnded
from connectd.net.url import URLError
from connectd.protocols.alloy import packets as alloy
from connectd.protocols.alloy.client import make_endpoint, parse_alloy_url, uuid_of
from connectd.protocols.alloy.plugin import plugin
from connectd.protocols.alloy.server import AlloyListener
from tests.protocols.alloy.scene import Player, Scene, certificate_file, write_assets


class URLTests(SynchronousTestCase):
    def test_parts(self) -> None:
        server = parse_alloy_url("alloy://ann@play.example?profile=hytale/2&trust=true&order=observed")
        self.assertEqual((server.username, server.host, server.port), ("ann", "play.example", 5520))
        self.assertEqual((server.settings.profile, server.settings.order), ("hytale/2", "observed"))
        self.assertTrue(server.settings.trust)

    def test_mistakes(self) -> None:
        """Each in one line, without a password."""
        for url, words in (
            ("alloy://play.example", "names no player"),
            ("alloy://a-name-that-is-too-long@play.example", "at most 16"),
            ("alloy://%C3%A4@play.example", "at most 16"),
            ("alloy://a%0A@play.example", "printable"),
            ("alloy://ann:secret@play.example", "password in a URL"),
            ("alloy://ann@play.example?pin=00", "64 hex digits"),
            (f"alloy://ann@play.example?trust=true&pin={'0' * 64}", "exclude each other"),
            ("alloy://ann@play.example?profile=hytale/3", "is not one of"),
            ("alloy://ann@play.example?uuid=x", "no UUID"),
            ("alloy://ann@play.example?language=%C3%A4", "not ASCII"),
        ):
            with self.assertRaises(URLError) as caught:
                parse_alloy_url(url)
            self.assertIn(words, str(caught.exception), url)
            self.assertNotIn("secret", str(caught.exception))

    def test_files(self) -> None:
        """A file that cannot be used is told when the endpoint is made."""
        folder = write_assets({"empty": b"x"})
        for query, words in (
            (f"authority={folder}/none", "there is no such file"),
            (f"authority={folder}/empty", "no certificate in it"),
            (f"trust=true&certificate={folder}/none", "cannot be read"),
            (f"trust=true&certificate={folder}/empty", "no private key"),
        ):
            with self.assertRaises(URLError) as caught:
                make_endpoint(None, parse_alloy_url(f"alloy://ann@play.example?{query}"))
            self.assertIn(words, str(caught.exception))
        good = parse_alloy_url(
            f"alloy://ann@play.example?authority={certificate_file()}&certificate={certificate_file()}"
        )
        self.assertIsNotNone(make_endpoint(None, good))
        colons = ":".join(["ab"] * 32)
        self.assertIsNotNone(make_endpoint(None, parse_alloy_url(f"alloy://ann@play.example?pin={colons}")))

    def test_uuids(self) -> None:
        """A player without a UUID has one made from the name, always the same."""
        self.assertEqual(uuid_of("ann"), uuid_of("ann"))
        self.assertNotEqual(uuid_of("ann"), uuid_of("ben"))
        chosen = "00112233-4455-6677-8899-aabbccddeeff"
        self.assertEqual(Player(None, uuid=chosen).client.uuid, UUID(chosen))


class PluginTests(SynchronousTestCase):
    def test_interface(self) -> None:
        verifyObject(IProtocol, plugin)
        self.assertEqual((plugin.name, plugin.port, tuple(plugin.account_schemes)), ("alloy", 5520, ()))
        (table,) = plugin.demonstration()
        settings: Any = plugin.settings
        self.assertEqual(settings(**table).listen, "udp:5520:interface=127.0.0.1")

    def test_service(self) -> None:
        """The plugin makes the listener, and the interface for players with accounts says no to nobody."""
        scene = Scene()
        made = plugin.makeService(scene.listener.settings, scene.network.context)
        self.assertIsInstance(made, AlloyListener)
        self.assertFalse(scene.listener.verified_players.is_taken(uuid_of("ann"), "ann"))
        scene.stop()


class ConnectingTests(SynchronousTestCase):
    def test_waiting_for_the_world(self) -> None:
        """Who waits for the world hears that it will never come."""
        scene = Scene(assets=write_assets({"big": os.urandom(3_000_000)}))
        scene.network.datagrams.latency = 0.05
        player = scene.join(seconds=0.6)
        waiting = player.client.when_entered()
        self.assertNoResult(waiting)
        player.client.hang_up()
        self.failureResultOf(waiting, ConnectionEnded)
        self.failureResultOf(player.client.when_entered(), ConnectionEnded)
        scene.stop(player)

    def test_in_already(self) -> None:
        scene = Scene()
        player = scene.join()
        self.successResultOf(player.client.when_entered())
        scene.stop(player)

    def test_given_up(self) -> None:
        """Cancelling hangs up, at any time."""
        for seconds in (0.0, 0.01, 0.2):
            scene = Scene()
            scene.network.datagrams.latency = 0.004
            player = Player(scene.network.clock, password=lambda remaining: Deferred())
            endpoint = scene.network.quic_endpoint(scene.listener, scene.parameters())
            connecting = player.client.connect(endpoint)
            scene.network.advance(seconds)
            connecting.cancel()
            failure = self.failureResultOf(connecting)
            failure.trap(CancelledError, ConnectionEnded)
            scene.network.advance(5)
            self.assertEqual(player.states[-1], "DISCONNECTED")
            scene.stop()

    def test_no_password_is_to_be_had(self) -> None:
        """A question that nobody answers ends the connection."""
        scene = Scene()
        asked: Deferred[bytes] = Deferred()
        player = scene.join(password=lambda remaining: asked)
        asked.errback(ZeroDivisionError())
        scene.network.advance(0.2)
        self.assertIn("Internal error", player.reason)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        scene.stop()

    def test_nothing_to_send_on(self) -> None:
        """Before there is a connection, sending does nothing."""
        player = Player(None)
        player.client.send(alloy.ClientReady())
        self.assertIsNone(player.client.client_id)
