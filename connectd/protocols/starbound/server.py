"""Starbound's listener: who may play, and how players prove who they are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, cast
from uuid import UUID

import attrs
from twisted.cred.credentials import IUsernameHashedPassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.python.failure import Failure

from connectd.admission import source_key
from connectd.admission.guard import guard
from connectd.credentials import Avatar
from connectd.directory.checkers import IUsernameSecret
from connectd.directory.errors import DirectoryError
from connectd.directory.names import MAXIMUM_OCTETS
from connectd.net.authentication import NO_ACCOUNTS, Authenticator, Objected, Objection
from connectd.net.connection import Connection, Peer, Refused
from connectd.net.deadlines import Deadlines
from connectd.net.listener import Context, Listener
from connectd.net.outgoing import STORING
from connectd.protocols.starbound import texts
from connectd.protocols.starbound.generations import GENERATIONS
from connectd.protocols.starbound.login_memory import LoginMemory
from connectd.protocols.starbound.machine import (
    ConnectRequested,
    ResponseReceived,
    ServerMachine,
    ShipworldReceived,
)
from connectd.protocols.starbound.players import Players
from connectd.protocols.starbound.proofs import RoundsProof, SaltedProof
from connectd.protocols.starbound.settings import StarboundSettings
from connectd.protocols.starbound.spool import Run, Spool
from connectd.protocols.starbound.turnstile import Ticket, Turnstile
from connectd.sansio import Ended, Event, Outcome
from connectd.secret_file import read_secret
from connectd.sessions import NOTHING
from connectd.settings import ListenerSettings
from connectd.workers.slices import BudgetSpent, Slices, TooManyWaiting

log = Logger()

SHIPWORLD: Final = "shipworld"
"""What a handler says with ``wants("starbound")`` to get players' ships (SB-8)."""

TOO_MUCH: Final = "Peers that have not logged in hold too much memory"
TOO_MUCH_STORED: Final = "The ships of peers that have not logged in take up too much space"

LONGEST_SHOWN: Final = 64
"""Characters of a name that are shown to operators."""


@attrs.define(eq=False)
class Guest:
    """What a connection's client has told, from its first piece of ship on.

    :param client_id: 0 before it is accepted.
    :param account: whose proof was right, as it is stored; empty before, and for somebody anonymous.
    :param ticket: what it holds while its challenge is unanswered.
    :param ship: where a handler wants it.
    """

    generation: str = ""
    name: str = ""
    species: str = ""
    uuid: bytes | None = None
    client_id: int = 0
    account: str = ""
    ticket: Ticket | None = None
    ship: Spool | None = None


class StarboundConnection(Connection):
    """A connection that is weighed after each turn, until its player has come in (SB-8)."""

    __slots__ = ()

    def _settle(self) -> None:
        super()._settle()
        if not self.machine.established:
            cast(StarboundListener, self.driver).weigh(self)


class StarboundListener(Listener):
    """One server that players connect to, in one generation of the protocol or several.

    :param settings: the listener's.
    :param context: the daemon's shared rooms.
    :raises connectd.credentials.CredentialsError: where nobody can check accounts, or the server's password cannot be
        had.
    """

    protocol = "starbound"
    credential_interfaces = (IUsernameHashedPassword, IUsernameSecret)
    connection_class = StarboundConnection
    settings: StarboundSettings

    def __init__(self, settings: StarboundSettings, context: Context) -> None:
        self._password = _read_password(settings)
        super().__init__(settings, context)
        self.in_thread: Run = deferToThread
        """What disk work is done with."""
        self.players = Players()
        self.memory: LoginMemory[Connection] = LoginMemory()
        self.stored: LoginMemory[Connection] = LoginMemory()
        """What they hold in temporary files."""
        self.slices = Slices(context.reactor, freed=self._look)
        self.turnstile = Turnstile(context.reactor, lambda: self.slices.room)
        self._uuid = context.random(16)
        self._guests: dict[Connection, Guest] = {}
        self._wants_ships = False
        # A generation is decided after generation_wait, and a sweep may come late by its interval.
        self.deadlines = Deadlines(context.reactor, min(0.25, max(0.02, settings.generation_wait / 4)))
        self._apply(settings)

    def _apply(self, settings: StarboundSettings) -> None:
        self._wants_ships = SHIPWORLD in self.handler.wants(self.protocol)
        self.slices.in_work = settings.hashes_in_work
        self.slices.most_waiting = settings.hashes_waiting
        self.slices.budget = settings.hash_budget

    def reconfigure(self, settings: ListenerSettings) -> bool:
        """Take new settings for connections from now on.

        :raises connectd.credentials.CredentialsError: where the server's password cannot be had; nothing is changed.
        """
        if not isinstance(settings, StarboundSettings):
            return False
        password = _read_password(settings)
        if not super().reconfigure(settings):
            return False
        self._password = password
        self._apply(settings)
        return True

    def startService(self) -> None:
        self.slices.startService()
        super().startService()
        if self._wants_ships:
            # As the user that the daemon has become.
            for problem in self.settings.look_at_spool():
                log.error("{title}: {problem}", title=self.title, problem=problem)

    def stopService(self) -> Deferred[None]:
        return super().stopService().addCallback(self._stopped)

    def _stopped(self, result: None) -> None:
        self.turnstile.close()
        self.slices.stopService()

    def _look(self) -> None:
        self.turnstile.look()

    def _make_authenticator(self, settings: ListenerSettings) -> Authenticator | None:
        """Where nobody knows accounts, a server for players without any can do without."""
        context = self.context
        known = context.directory is not None or context.checkers or getattr(settings, "auth", ())
        if not known and cast(StarboundSettings, settings).anonymous:
            return None
        return super()._make_authenticator(settings)

    # What the machines say

    def make_machine(self, peer: Peer, now: float) -> ServerMachine:
        return ServerMachine(
            self.settings,
            now=now,
            random=self.context.random,
            keep_shipworld=self._wants_ships,
            server_uuid=self._uuid,
        )

    def on_ShipworldReceived(self, connection: Connection, event: ShipworldReceived) -> None:
        """Keep a piece of the ship; the client waits while the disk is slow."""
        guest = self._guest(connection)
        if guest.ship is None:
            guest.ship = Spool(self.settings.spool_directory, self.in_thread)
        written = guest.ship.write(event.data)
        if written is not None:
            connection.pause(STORING)
            written.addCallback(lambda result: connection.resume(STORING))
            written.addErrback(self._not_written, connection)
            connection.serve(written)

    def _not_written(self, failure: Any, connection: Connection) -> None:
        failure.trap(OSError)
        place = self.settings.spool_directory or "the system's place for temporary files"
        log.error(
            "{title}: a ship cannot be kept in {place}: {problem} (spool_directory names another place)",
            title=self.title,
            place=place,
            problem=failure.value.strerror or failure.value,
        )
        connection.close(Outcome.REFUSED, "the player's ship could not be kept")

    def on_ConnectRequested(self, connection: Connection, event: ConnectRequested) -> None:
        """Ask for a proof, let in who needs none, or say no.

        In the generations where the server speaks first, the machine keeps a refusal until the client has answered its
        challenge (SB-1).
        """
        machine = cast(ServerMachine, connection.machine)
        guest = self._guest(connection)
        guest.generation, guest.uuid = event.generation, event.uuid
        guest.name, guest.species = _shown(event.name), _shown(event.species)
        server_first = GENERATIONS[event.generation].server_first
        refusal = self._refusal(guest)
        if refusal is None and not event.account and not self._takes_anonymous(server_first):
            refusal = Refused(texts.anonymous(event.generation))
        if refusal is not None:
            connection.call(partial(_refuse, machine, refusal))
        elif server_first:
            connection.decide(self.turnstile.enter(self._source(connection)), partial(self._challenge, connection))
        elif event.account:
            connection.call(machine.challenge)
        else:
            connection.call(partial(self._accept, connection, ""))

    def on_ResponseReceived(self, connection: Connection, event: ResponseReceived) -> None:
        """Look at the proof."""
        proved = self._prove(connection, event)
        # After hashing has begun, so that nobody takes its place.
        self._return_ticket(connection)
        connection.decide(proved, partial(self._accept, connection))

    def identity(self, connection: Connection) -> Mapping[str, Any]:
        """The player, as the client told it, and the client id that it was given."""
        guest = self._guest(connection)
        identity = {"client_id": guest.client_id, "player": guest.name, "species": guest.species}
        if guest.uuid is not None:
            identity["uuid"] = guest.uuid.hex()
        return {**identity, "generation": guest.generation}

    def account(self, connection: Connection) -> str:
        guest = self._guests.get(connection)
        return "" if guest is None else guest.account

    def wanted(self, connection: Connection) -> Mapping[str, Any]:
        """``"shipworld"``: a :class:`~connectd.protocols.starbound.spool.Spool`."""
        ship = self._guest(connection).ship
        return NOTHING if ship is None else {SHIPWORLD: ship}

    def connection_ended(self, connection: Connection, event: Ended) -> None:
        try:
            super().connection_ended(connection, event)
        finally:
            self._forget(connection)
            self._return_ticket(connection)
            guest = self._guests.pop(connection, None)
            if guest is not None:
                if guest.client_id:
                    self.players.leave(guest.client_id, guest.uuid)
                if guest.ship is not None:
                    guest.ship.close()

    # Who may come in

    def objection(self, connection: Connection) -> Objection | None:
        """Bans of accounts, addresses and UUIDs, in Starbound's words (SB-9, SB-23)."""
        found = super().objection(connection)
        if found is None:
            guest = self._guests.get(connection)
            return None if guest is None else self._uuid_objection(guest.uuid)
        return _in_our_words(found)

    def _uuid_objection(self, uuid: bytes | None) -> Objection | None:
        directory = self.context.directory
        if directory is None or uuid is None:
            return None
        reason = directory.match_uuid(UUID(bytes=uuid))
        return None if reason is None else Objection(Outcome.BANNED, texts.banned(reason), reason)

    def _refusal(self, guest: Guest) -> Refused | None:
        """Why a player may not come in, whoever it proves to be."""
        try:
            objection = self._uuid_objection(guest.uuid)
        except DirectoryError as error:
            log.error("{title}: a login was refused unseen: {reason}", title=self.title, reason=str(error))
            return Refused(NO_ACCOUNTS)
        if objection is not None:
            return Refused(objection.reason, objection.outcome)
        if self.full:
            return Refused(texts.full(guest.generation), Outcome.LIMITED)
        if guest.uuid is not None and guest.uuid in self.players:
            return Refused(texts.DUPLICATE_UUID)
        return None

    def _takes_anonymous(self, server_first: bool) -> bool:
        """Whether somebody without an account may come in, or may at least try (SB-6)."""
        return self.settings.anonymous and (server_first or not self._password)

    def _challenge(self, connection: Connection, ticket: Ticket, now: float) -> list[Event]:
        self._guest(connection).ticket = ticket
        return cast(ServerMachine, connection.machine).challenge(now)

    def _return_ticket(self, connection: Connection) -> None:
        guest = self._guests.get(connection)
        if guest is not None and guest.ticket is not None:
            ticket, guest.ticket = guest.ticket, None
            self.turnstile.give_back(ticket)

    def _prove(self, connection: Connection, event: ResponseReceived) -> Deferred[str]:
        """Verify a proof.

        :return: fires with the account, as it is stored; fails with ``Refused`` where the proof is wrong, or the
            account may not be used.
        """
        proved: Deferred[Any]
        if not event.account:
            proved = self._prove_anonymous(connection, event)
        elif self.authenticator is None:
            proved = fail(UnauthorizedLogin())
        else:
            proved = self.login(connection, self._proof(event)).addCallback(_account_of)
        return proved.addErrback(self._not_proved, event)

    def _not_proved(self, failure: Failure, event: ResponseReceived) -> Failure:
        error = failure.value
        if isinstance(error, UnauthorizedLogin):
            raise Refused(texts.NO_SUCH_ACCOUNT) from None
        if isinstance(error, Objected):
            objection = _in_our_words(error.objection)
            raise Refused(objection.reason, objection.outcome) from None
        if isinstance(error, BudgetSpent):
            log.warn(
                "{title}: a password was not checked: {problem} (rounds is {rounds}, hash_budget allows no more)",
                title=self.title,
                problem=str(error),
                rounds=event.rounds,
            )
        if isinstance(error, BudgetSpent | TooManyWaiting):
            raise Refused(texts.full(event.generation), Outcome.LIMITED) from None
        return failure

    def _proof(self, event: ResponseReceived) -> RoundsProof | SaltedProof:
        # Nobody has a longer name, and it is hashed thousands of times.
        account = event.account_bytes[: MAXIMUM_OCTETS + 1]
        if GENERATIONS[event.generation].server_first:
            return RoundsProof(account, event.salt, event.rounds, event.response, self.slices)
        return SaltedProof(account, event.salt, event.response)

    def _prove_anonymous(self, connection: Connection, event: ResponseReceived) -> Deferred[str]:
        """Somebody without an account, who has to know the server's password where there is one (SB-6)."""
        if not self._password:
            return succeed("")
        password = self._password

        async def verify() -> str:
            proof = RoundsProof(b"", event.salt, event.rounds, event.response, self.slices)
            if not await proof.checkPassword(password):
                raise UnauthorizedLogin
            return ""

        return guard(self.context.ledger, connection.peer.host, "", verify, clock=self.clock)

    def _accept(self, connection: Connection, account: str, now: float) -> list[Event]:
        """Let a player in, unless somebody else has taken the place meanwhile."""
        machine = cast(ServerMachine, connection.machine)
        guest = self._guest(connection)
        refusal = self._refusal(guest)
        if refusal is not None:
            return _refuse(machine, refusal, now)
        guest.account = account
        guest.client_id = self.players.enter(guest.uuid)
        self._forget(connection)
        return machine.accept(guest.client_id, now)

    # What they hold

    def weigh(self, connection: Connection) -> None:
        """Note what a peer holds before it has logged in, in memory and on disk; where all of them hold too much, the
        newest of the source that holds most has to go (SB-8)."""
        if not connection.machine.ended:
            guest = self._guests.get(connection)
            ship = None if guest is None else guest.ship
            self.memory.note(connection, connection.machine.held + (0 if ship is None else ship.held), self._source)
            if ship is not None and ship.stored:
                self.stored.note(connection, ship.stored, self._source)
        self._relieve(self.memory, self.settings.login_memory, TOO_MUCH)
        self._relieve(self.stored, self.settings.spool_limit, TOO_MUCH_STORED)

    def _relieve(self, memory: LoginMemory[Connection], most: int, reason: str) -> None:
        while memory.total > most:
            victim = memory.victim()
            self._forget(victim)
            victim.close(Outcome.LIMITED, reason)

    def _forget(self, connection: Connection) -> None:
        """A peer has logged in, or is gone."""
        self.memory.forget(connection)
        self.stored.forget(connection)

    def _source(self, connection: Connection) -> str:
        limits = self.context.admission.limits
        return source_key(connection.peer.host, ipv4_prefix=limits.ipv4_prefix, ipv6_prefix=limits.ipv6_prefix)

    def _guest(self, connection: Connection) -> Guest:
        guest = self._guests.get(connection)
        if guest is None:
            guest = self._guests[connection] = Guest()
        return guest


def _account_of(avatar: Avatar) -> str:
    return avatar.account


def _read_password(settings: StarboundSettings) -> bytes:
    return read_secret("starbound", "password", settings.password, settings.password_file)


def _refuse(machine: ServerMachine, refusal: Refused, now: float) -> list[Event]:
    return machine.refuse(refusal.reason, now, refusal.outcome)


def _in_our_words(objection: Objection) -> Objection:
    return attrs.evolve(objection, reason=texts.banned(objection.ban)) if objection.ban else objection


def _shown(text: str) -> str:
    """A text of a peer for operators: short, and without what cannot be written as UTF-8."""
    return text[:LONGEST_SHOWN].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
