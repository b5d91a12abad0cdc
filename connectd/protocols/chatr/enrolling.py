"""What the commands have in common: an identity in a file, the server that it is for, and its registration."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Coroutine
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote
from uuid import UUID

import attrs
import click

from connectd.net.certificates import CertificateError
from connectd.net.endpoint import parse_endpoint
from connectd.net.foreground import run
from connectd.net.trust import Trust
from connectd.net.url import ServerURL
from connectd.protocols.chatr.client import parse_chatr_url
from connectd.protocols.chatr.commands import REGISTRY, URL
from connectd.protocols.chatr.identity import Identity, IdentityError, PassphraseNeeded, generate, load, save
from connectd.protocols.chatr.registry import KeyRegistry, RegistryError
from connectd.protocols.chatr.settings import ChatrClientSettings, ChatrSettings
from connectd.workers.threads import run_in_thread


class CommandFailed(click.ClickException):
    """The command could not do what it was asked: one line, exit status 1."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(_shown(message))


def run_command(main: Callable[[Any], Coroutine[Any, Any, None]], context: click.Context) -> None:
    """Run a command's coroutine on the reactor; what a person can mend is told in one line."""
    from connectd.net.bound import BindError
    from connectd.protocols.chatr.client import NotConnected, RequestDenied
    from connectd.protocols.chatr.peer_socket import PunchingFailed

    try:
        run(main)
    except (
        BindError,
        CertificateError,
        IdentityError,
        NotConnected,
        PunchingFailed,
        RegistryError,
        RequestDenied,
    ) as error:
        raise CommandFailed(str(error)) from error


def _shown(text: str) -> str:
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def print_line(text: str) -> None:
    """A line on standard output, at once. What peers say cannot move the cursor."""
    click.echo(_shown(text))


def print_status(text: str) -> None:
    """A line on standard error."""
    click.echo(_shown(text), err=True)


@attrs.frozen
class Places:
    """Where a server is.

    :param url: its ``chatr://`` URL.
    :param registry: where keys are registered.
    :param certificate: a PEM file with the certificate to pin, or nothing.
    """

    url: str
    registry: str
    certificate: str


def configured_places(configuration: Any) -> Places | None:
    """Where the first Chatr listener of a configuration is, or None where it has none."""
    for listener in configuration.listeners:
        settings = listener.settings
        if isinstance(settings, ChatrSettings) and settings.listen.startswith("tcp:"):
            host, port = _reachable(settings.listen)
            registry = ""
            if settings.rest.startswith("tcp:"):
                rest_host, rest_port = _reachable(settings.rest)
                plain = not settings.rest_certificate and _is_loopback(settings.rest)
                registry = f"{'http' if plain else 'https'}://{rest_host}:{rest_port}"
            return Places(f"chatr://{host}:{port}", registry, settings.certificate)
    return None


def _reachable(place: str) -> tuple[str, int]:
    """How to reach a listening socket from this machine."""
    description = parse_endpoint(place)
    address = ip_address(description.interface or "::")
    if address.is_unspecified:
        return "127.0.0.1", description.port
    return f"[{address}]" if address.version == 6 else str(address), description.port


def _is_loopback(place: str) -> bool:
    return ip_address(parse_endpoint(place).interface or "::").is_loopback


class Enrolment:
    """One call of a command.

    :param invocation: what connectctl was told for all its commands; has ``config``, ``json`` and ``configuration()``.
    :param path: the identity file.
    :param passphrase_file: has its passphrase, or None.
    :param url: the server's, or None for what the configuration says.
    :param registry: likewise.
    :param certificate: the certificate to pin, likewise.
    """

    def __init__(
        self,
        invocation: Any,
        path: str,
        passphrase_file: str | None,
        *,
        url: str | None = None,
        registry: str | None = None,
        certificate: str | None = None,
    ) -> None:
        self.path = path
        self.json = bool(getattr(invocation, "json", False))
        self._passphrase_file = passphrase_file
        self._asked: bytes | None = None
        found: Places | None = None
        # Whoever names the server has no need of a configuration.
        if url is None and registry is None and invocation is not None and os.path.exists(invocation.config):
            found = configured_places(invocation.configuration())
        usual = found or Places(URL, REGISTRY, "")
        self.places = Places(url or usual.url, registry or usual.registry, certificate or usual.certificate)

    # Who and where

    def server(self) -> ServerURL[ChatrClientSettings]:
        """The server, its certificate pinned where one is named."""
        url = self.places.url
        if self.places.certificate and "certificate=" not in url:
            url += f"{'&' if '?' in url else '?'}certificate={quote(self.places.certificate)}"
        return parse_chatr_url(url)

    def registry(self, reactor: Any) -> KeyRegistry:
        """The directory of keys.

        :raises CommandFailed: where there is none.
        """
        if not self.places.registry:
            raise CommandFailed("this server's listener has no rest face; name another registry with --registry")
        trust = None
        if self.places.certificate and self.places.registry.startswith("https:"):
            host = self.places.registry.removeprefix("https://").rpartition(":")[0] or "localhost"
            trust = Trust.from_files(host.strip("[]"), self.places.certificate)
        try:
            return KeyRegistry(reactor, self.places.registry, trust)
        except ValueError as error:
            raise click.UsageError(str(error)) from None

    def load(self) -> Identity:
        """The identity of the file; the passphrase is asked for where one is needed."""
        passphrase = self._passphrase()
        try:
            return load(self.path, passphrase)
        except PassphraseNeeded:
            if passphrase is not None:
                raise
        asked: bytes = click.prompt(f"Passphrase of {self.path}", hide_input=True, err=True).encode()
        identity = load(self.path, asked)
        self._asked = asked
        return identity

    async def load_or_make(self, reactor: Any, *, bits: int = 4096, encrypt: bool = False) -> Identity:
        """The identity of the file, which is made where there is none."""
        if os.path.lexists(self.path):
            return self.load()
        passphrase = self._passphrase()
        if encrypt and passphrase is None:
            passphrase = self._new_passphrase()
        identity = await run_in_thread(reactor, generate, bits)
        save(identity, self.path, passphrase)
        print_status(f"made the identity {identity.uuid} in {self.path}: keep it, and keep it to yourself")
        return identity

    def _passphrase(self) -> bytes | None:
        """What is in the file, or was typed."""
        if self._passphrase_file is None:
            return self._asked
        try:
            with open(self._passphrase_file, "rb") as file:
                return file.readline(4096).rstrip(b"\r\n")
        except OSError as error:
            raise CommandFailed(f"{self._passphrase_file}: cannot be read: {error.strerror or error}") from None

    @staticmethod
    def _new_passphrase() -> bytes:
        answer: str = click.prompt("Passphrase for the new key", hide_input=True, confirmation_prompt=True, err=True)
        return answer.encode()

    # The commands

    async def register(self, reactor: Any, *, bits: int, encrypt: bool, replace: bool) -> None:
        """``connectctl chatr register``."""
        registry = self.registry(reactor)
        identity = await self.load_or_make(reactor, bits=bits, encrypt=encrypt)
        if replace:
            await self._replace(reactor, registry, identity, bits, encrypt)
            return
        new = await registry.register(identity)
        self._tell(identity, "registered" if new else "was registered already", registered=True)

    async def _replace(self, reactor: Any, registry: KeyRegistry, identity: Identity, bits: int, encrypt: bool) -> None:
        """The new key is on the disk before the server knows it, and in its place only after that.

        One that is there already is that of a call which was cut off: the server may know it, so that none but this
        one may ever open the door again. It is taken, and not made anew.
        """
        beside = f"{self.path}.new"
        passphrase = self._passphrase()
        if os.path.lexists(beside):
            successor = load(beside, passphrase)
            if successor.uuid != identity.uuid:
                raise CommandFailed(f"{beside}: is the key of {successor.uuid}, of somebody else (move it away)")
            print_status(f"going on with the new key in {beside}, which was made before")
        else:
            if encrypt and passphrase is None:
                passphrase = self._new_passphrase()
            successor = await run_in_thread(reactor, generate, bits, identity.uuid)
            save(successor, beside, passphrase)
        if await registry.read(identity.uuid) != successor.key:
            await registry.replace(identity, successor.key)
        os.replace(beside, self.path)
        self._tell(successor, "has a new key, which is registered", registered=True)

    async def show(self, reactor: Any, *, offline: bool) -> None:
        """``connectctl chatr show``."""
        identity = self.load()
        if offline:
            self._tell(identity, "", registered=None)
            return
        key = await self.registry(reactor).read(identity.uuid)
        if key is None:
            self._tell(identity, "is not registered", registered=False)
        elif key == identity.key:
            self._tell(identity, "is registered with this key", registered=True)
        else:
            self._tell(identity, "is registered with another key", registered=False)

    def _tell(self, identity: Identity, what: str, *, registered: bool | None) -> None:
        if self.json:
            facts = {"uuid": str(identity.uuid), "fingerprint": identity.fingerprint, "registered": registered}
            print_line(json.dumps(facts))
            return
        print_line(f"{identity.uuid} {what}".rstrip())
        print_line(f"  key: {identity.fingerprint}, RSA with {identity.private.key_size} bits")

    async def talk(
        self,
        reactor: Any,
        *,
        peer_port: int | None,
        callee: UUID | None = None,
        friends: Collection[UUID] = (),
    ) -> None:
        """``connectctl chatr listen`` and ``talk``."""
        from connectd.protocols.chatr.talking import talk

        server = self.server()
        if peer_port is not None:
            server = attrs.evolve(server, settings=attrs.evolve(server.settings, peer_port=peer_port))
        identity = await self.load_or_make(reactor)
        await self._see_to_registration(reactor, identity)
        await talk(reactor, server, identity, print_line, print_status, callee=callee, friends=friends)

    async def _see_to_registration(self, reactor: Any, identity: Identity) -> None:
        """Register who is not; where the registry cannot be asked, the server will tell."""
        if not self.places.registry:
            return
        registry = self.registry(reactor)
        try:
            if await registry.read(identity.uuid) is None and await registry.register(identity):
                print_status(f"registered {identity.uuid} at {self.places.registry}")
        except RegistryError as error:
            print_status(f"not registered: {error}")
