"""The server's side of a UDP socket: which datagram belongs to whom, and who is let in at all."""

from __future__ import annotations

import os
from typing import Any, Final, Protocol

from aioquic._buffer import Buffer
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE, QuicConfiguration
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicHeader,
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.retry import QuicRetryTokenHandler
from twisted.internet.interfaces import IReactorTime

from connectd.net.connection import Peer
from connectd.net.quic.endpoint import CONNECTION_ID_LENGTH, LONG_HEADER, Endpoint
from connectd.net.quic.session import Owner, Session
from connectd.net.quic.stream import udp_address
from connectd.net.quic_private import BoundedConnection, Bounds, encode_initial_close

MAX_CONNECTION_ID: Final = 20
LEAST_CHOSEN_ID: Final = 8
"""Bytes at least of the id that a client chooses for the server in its first packet (RFC 9000, 7.2)."""

STRAY_PERIOD: Final = 10.0
"""Seconds for which a newcomer that came to nothing is counted."""

_LONG_HEADER_START: Final = 6
_TOKEN_MARK: Final = b"connectd"
"""What our tokens begin with: one of another program, from another time, is none (RFC 9000, 8.1.3)."""


class Gate(Protocol):
    """Who decides about newcomers. :class:`~connectd.net.quic.listener.QuicListener` is one."""

    @property
    def accepting(self) -> bool:
        """Whether anybody new is let in."""

    @property
    def retry_threshold(self) -> int:
        """From how many connections without a validated address on newcomers have to show a token."""

    def configure(self) -> tuple[QuicConfiguration, Bounds, bool]:
        """For a new connection: what aioquic is to do, what it may hold, whether to ask for a certificate."""

    def admit_peer(self, peer: Peer, now: float) -> bool:
        """Whether this peer may connect (COM-4); where not, its outcome is told."""

    def release_peer(self, peer: Peer) -> None:
        """What looked like an admitted peer was none."""

    def arrived(self, session: Session, peer: Peer, now: float) -> Owner:
        """An admitted peer has begun its handshake."""


class ServerEndpoint(Endpoint):
    """Lets QUIC clients in on one UDP socket.

    What is no QUIC, belongs to nobody or is no proper beginning is dropped without an answer and leaves nothing
    behind.

    :param clock: the reactor.
    :param gate: who decides about newcomers.
    :ivar unvalidated: connections whose address may be anybody's.
    :ivar strays: newcomers whose address may be anybody's and of whom no connection came in this period: refused by
        admission, or unreadable. They count towards the threshold of Retry as well, so that a flood with addresses that
        are not its own costs, and has written, no more than so many for each period (COM-2).
    """

    def __init__(self, clock: IReactorTime, gate: Gate) -> None:
        super().__init__(clock)
        self.gate = gate
        self.unvalidated = 0
        self.strays = 0
        self._strays_until = 0.0
        self._tokens = QuicRetryTokenHandler()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Give it to its connection, or see whether it begins one."""
        if len(datagram) < _LONG_HEADER_START:
            return
        long = datagram[0] & LONG_HEADER
        if long:
            length = datagram[5]
            if length > MAX_CONNECTION_ID:
                return
            connection_id = datagram[_LONG_HEADER_START : _LONG_HEADER_START + length]
        else:
            connection_id = datagram[1 : 1 + CONNECTION_ID_LENGTH]
        session = self.routes.get(connection_id)
        if session is not None:
            session.receive(datagram, addr, self.clock.seconds())
            if not session.validated and session.quic.address_validated:
                self._validated(session)
        elif long and len(datagram) >= SMALLEST_MAX_DATAGRAM_SIZE:
            self._newcomer(datagram, addr)

    def forget(self, session: Session) -> None:
        counted = not session.validated and self.routes.get(session.quic.chosen_id) is session
        super().forget(session)
        if counted:
            self.unvalidated -= 1

    def _validated(self, session: Session) -> None:
        session.validated = True
        self.unvalidated -= 1

    def _newcomer(self, datagram: bytes, address: Any) -> None:
        """A long header for a connection id that is not ours: a client's first packet, or nothing."""
        try:
            header = pull_quic_header(Buffer(data=datagram), CONNECTION_ID_LENGTH)
        except ValueError:
            return
        configuration, bounds, ask = self.gate.configure()
        version = header.version
        if version is None or header.packet_type is QuicPacketType.VERSION_NEGOTIATION:
            return
        if version not in configuration.supported_versions:
            negotiation = encode_quic_version_negotiation(
                source_cid=header.destination_cid,
                destination_cid=header.source_cid,
                supported_versions=configuration.supported_versions,
            )
            self.send([(negotiation, address)])
            return
        if header.packet_type is not QuicPacketType.INITIAL or len(header.destination_cid) < LEAST_CHOSEN_ID:
            return
        if not self.gate.accepting:
            self._refuse(header, address, QuicErrorCode.CONNECTION_REFUSED)
            return
        now = self.clock.seconds()
        original, retried = header.destination_cid, None
        if header.token.startswith(_TOKEN_MARK):
            try:
                original = self._tokens.validate_token(
                    address=address, destination_cid=original, token=header.token[len(_TOKEN_MARK) :], now=now
                )
            except ValueError:
                self._refuse(header, address, QuicErrorCode.INVALID_TOKEN)
                return
            retried = header.destination_cid
        elif self._must_retry(now):
            self._retry(header, address, now)
            return
        peer = Peer.from_address(udp_address(address))
        if not self.gate.admit_peer(peer, now):
            self.strays += retried is None
            self._refuse(header, address, QuicErrorCode.CONNECTION_REFUSED)
            return
        quic = BoundedConnection(
            configuration=configuration,
            bounds=bounds,
            ask_for_certificate=ask,
            original_destination_connection_id=original,
            retry_source_connection_id=retried,
        )
        session = Session(self, quic, address)
        session.receive(datagram, address, now)
        if not quic.started and quic.closing is None:
            # Nothing in it could be read: not the beginning of a connection.
            session.drop()
            self.gate.release_peer(peer)
            self.strays += retried is None
            return
        session.owner = self.gate.arrived(session, peer, now)
        if retried is None:
            self.unvalidated += 1
        else:
            quic.validate_address()
            session.validated = True
        self.routes[quic.chosen_id] = session
        for connection_id in quic.connection_ids:
            self.routes[connection_id] = session

    def _must_retry(self, now: float) -> bool:
        """Whether newcomers have to show that their address is their own."""
        if now >= self._strays_until:
            self._strays_until = now + STRAY_PERIOD
            self.strays = 0
        return self.unvalidated + self.strays >= self.gate.retry_threshold

    def _retry(self, header: QuicHeader, address: Any, now: float) -> None:
        """Have a client come back with a token that only its own address can have received. Nothing is kept of it."""
        source = os.urandom(CONNECTION_ID_LENGTH)
        token = self._tokens.create_token(
            address=address,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=source,
            now=now,
        )
        assert header.version is not None
        packet = encode_quic_retry(
            version=header.version,
            source_cid=source,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=_TOKEN_MARK + token,
        )
        self.send([(packet, address)])

    def _refuse(self, header: QuicHeader, address: Any, error: int) -> None:
        """Say no, and keep nothing."""
        assert header.version is not None
        close = encode_initial_close(header.version, header.destination_cid, header.source_cid, error)
        self.send([(close, address)])
