"""What Starbound's machines have to say, besides the events of every machine."""

from __future__ import annotations

import attrs

from connectd.protocols.starbound.encoding import string_bytes
from connectd.protocols.starbound.packets import ClientConnect
from connectd.sansio import Decision, Event


@attrs.frozen
class ShipworldReceived(Event):
    """A piece of the shipworld, for a server that wants it; all of them come before :class:`ConnectRequested`.

    :param data: where the server speaks first, the next bytes of the file. Otherwise the next bytes of the world
        chunks as they are on the wire: VLQ n, n times bytes key, bool present, [bytes value].
    """

    data: bytes = attrs.field(repr=lambda data: f"<{len(data)} bytes>")


@attrs.frozen
class ConnectRequested(Decision):
    """A player wants to come in. Verbs: ``challenge`` or, for one without an account where the client speaks first,
    ``accept``.

    :param generation: the name of the generation that is spoken.
    :param packet: what the player said, without the shipworld.
    """

    generation: str
    packet: ClientConnect

    @property
    def account(self) -> str:
        """Empty for an anonymous player. Bytes that are no UTF-8 are lone surrogates."""
        return self.packet.account

    @property
    def account_bytes(self) -> bytes:
        """As it came."""
        return string_bytes(self.packet.account)

    @property
    def uuid(self) -> bytes | None:
        """The player's, 16 bytes."""
        return self.packet.uuid

    @property
    def name(self) -> str:
        """The player's."""
        return self.packet.name

    @property
    def species(self) -> str:
        """The player's."""
        return self.packet.species

    @property
    def digest(self) -> bytes:
        """That of the client's assets."""
        return self.packet.asset_digest


@attrs.frozen
class ResponseReceived(Decision):
    """The player answered the challenge. Verb: ``accept``.

    :param generation: the name of the generation that is spoken.
    :param account: as the player named it.
    :param salt: the challenge's, as it went over the wire.
    :param rounds: the challenge's; 0 where the client speaks first.
    :param response: the hash, decoded from base64 where the server speaks first; empty where it is none.
    """

    generation: str
    account: str = attrs.field(repr=False)
    salt: bytes
    rounds: int
    response: bytes = attrs.field(repr=False)

    @property
    def account_bytes(self) -> bytes:
        """As it came."""
        return string_bytes(self.account)


@attrs.frozen
class ChallengeReceived(Decision):
    """The server wants a proof. Verb: ``respond``.

    :param generation: the name of the generation that is spoken.
    :param account: as we named it.
    :param salt: as it came.
    :param rounds: how often to hash; 0 where the client speaks first.
    """

    generation: str
    account: str = attrs.field(repr=False)
    salt: bytes
    rounds: int

    @property
    def account_bytes(self) -> bytes:
        """As it went over the wire."""
        return string_bytes(self.account)


@attrs.frozen
class PacketSent(Event):
    """The client said something.

    :param name: the packet's.
    :param size: bytes of its frame, before zstd.
    :param detail: what it says, in plain words, without secrets.
    """

    name: str
    size: int
    detail: str = ""


@attrs.frozen
class PacketReceived(Event):
    """The server said something.

    :param name: the packet's.
    :param size: bytes of its frame, without zstd.
    :param detail: what it says, in plain words.
    """

    name: str
    size: int
    detail: str = ""
