"""Which sockets get in each other's way, and which texts are sockets."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from connectd.config.places import absolute, collide, endpoints, resolve
from connectd.directory.settings import DirectorySettings
from connectd.net.endpoint import parse_endpoint
from connectd.settings import ListenerSettings, key
from tests.toy_protocol import ToySettings


class DirectoryTests(SynchronousTestCase):
    def test_folder(self) -> None:
        """Whatever the folder is called, the database is in it."""
        for folder in ("/a%20b", "/a b", "/ä?#"):
            resolved = resolve(DirectorySettings(url="sqlite:///x%20y.db"), folder)
            self.assertEqual(resolved.database_path("/elsewhere"), f"{folder}/x y.db")
            self.assertEqual(resolve(resolved, "/elsewhere"), resolved)


class CollideTests(SynchronousTestCase):
    def assert_collision(self, one: str, other: str, expected: bool) -> None:
        first, second = parse_endpoint(one), parse_endpoint(other)
        self.assertIs(collide(first, second), expected, (one, other))
        self.assertIs(collide(second, first), expected, (other, one))

    def test_collisions(self) -> None:
        for one, other in [
            ("tcp:1", "tcp:1"),
            ("tcp:1:interface=127.0.0.1", "tcp:1:interface=localhost:backlog=5"),
            ("tcp:1", "tcp:1:interface=127.0.0.1"),
            ("tcp:1", "tcp:1:interface=[::1]"),
            ("tcp:1:interface=[::]", "tcp:1:interface=0.0.0.0"),
            ("tcp:1:interface=0.0.0.0", "tcp:1:interface=10.0.0.1"),
            ("udp:1", "udp:1:interface=10.0.0.1"),
            ("unix:/a", "unix:/a:mode=666"),
            ("systemd:name=a", "systemd:name=a"),
        ]:
            self.assert_collision(one, other, True)

    def test_no_collisions(self) -> None:
        for one, other in [
            ("tcp:1", "tcp:2"),
            ("tcp:1", "udp:1"),
            ("tcp:0", "tcp:0"),
            ("tcp:1:interface=127.0.0.1", "tcp:1:interface=127.0.0.2"),
            ("tcp:1:interface=0.0.0.0", "tcp:1:interface=[::1]"),
            ("unix:/a", "unix:/b"),
            ("systemd:name=a", "systemd:name=a:kind=datagram"),
            ("systemd:name=a", "systemd:index=0"),
        ]:
            self.assert_collision(one, other, False)


class EndpointTests(SynchronousTestCase):
    def test_keys_that_are_endpoints(self) -> None:
        """The address of another server and whatever else is text are no places to listen on."""
        toy = ToySettings(listen="systemd:name=toy", udp="udp:5", backend="tcp:play.example:5", mood="good")
        self.assertEqual(
            [(key, str(place)) for key, place in endpoints(toy)], [("listen", "systemd:name=toy"), ("udp", "udp:5")]
        )


@attrs.frozen(kw_only=True)
class WordOrFile(ListenerSettings):
    """A key whose text is a word or a file."""

    group: str = key("standard", "What to use.", path=True, words=("standard", "fresh"))


class ResolveTests(SynchronousTestCase):
    def test_words(self) -> None:
        """A word stays what it is, everything else is a path."""
        for word in ("standard", "fresh"):
            self.assertEqual(resolve(WordOrFile(group=word), "/srv").group, word)
        self.assertEqual(resolve(WordOrFile(group="Fresh"), "/srv").group, "/srv/Fresh")

    def test_nothing_to_resolve(self) -> None:
        toy = ToySettings(listen="tcp:1", certificate="/etc/toy.pem")
        self.assertIs(resolve(toy, "/srv"), toy)

    def test_malformed_endpoint_stays(self) -> None:
        """What is wrong with it is told by whoever reads it."""
        self.assertEqual(resolve(ToySettings(listen="unix:"), "/srv").listen, "unix:")

    def test_escaped_colon(self) -> None:
        self.assertEqual(resolve(ToySettings(listen=r"unix:a\:b"), "/srv").listen, r"unix:/srv/a\:b")

    def test_absolute(self) -> None:
        self.assertEqual(absolute("", "/srv"), "")
        self.assertEqual(absolute("a/../b", "/srv"), "/srv/b")
        self.assertEqual(absolute("/a", "/srv"), "/a")
