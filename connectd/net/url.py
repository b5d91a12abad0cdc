"""``lekt://host:port?option=value``: a server and how to speak with it."""

from __future__ import annotations

import re
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

from connectd.net.preferred_port import PreferredPort
from connectd.structure import StructureError, from_text

SettingsT = TypeVar("SettingsT")


class URLError(ValueError):
    """A server URL that cannot be used; its text is one line for the person who wrote it."""


@attrs.frozen
class ServerURL(Generic[SettingsT]):
    """A parsed server URL.

    :param scheme: the protocol's name.
    :param username: the account, or nothing. A password in a URL is refused.
    :param host: a name or numeric address.
    :param port: its port.
    :param settings: the client's settings, from the query.
    """

    scheme: str
    username: str
    host: str
    port: int
    settings: SettingsT

    def endpoint(self, reactor: Any, timeout: float = 30.0, local_port: int = 0) -> IStreamClientEndpoint:
        """A TCP endpoint that leads there; both address families are tried.

        :param timeout: seconds for the connection to stand.
        :param local_port: our own end's, where it is to be had; 0 = any.
        """
        anywhere = HostnameEndpoint(reactor, self.host, self.port, timeout=timeout)
        if not local_port:
            return anywhere
        there = HostnameEndpoint(reactor, self.host, self.port, timeout=timeout, bindAddress=("", local_port))
        return PreferredPort(there, anywhere)


def without_password(url: str) -> str:
    """A URL that can be shown (COM-9)."""
    return re.sub("(//[^/@:]*):.*@", r"\1:…@", url)


def parse_url(text: str, scheme: str, default_port: int, settings: type[SettingsT]) -> ServerURL[SettingsT]:
    """Take a URL apart.

    :param scheme: the protocol's name, which the URL must carry.
    :param default_port: for a URL without one.
    :param settings: the settings class whose keys the query may set.
    :raises URLError: with everything that is wrong with it.
    """
    shown = without_password(text)
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise URLError(f"{shown}: {error}") from None
    try:
        port = default_port if parts.port is None else parts.port
    except ValueError:
        port = 0
    if not 1 <= port <= 65535:  # without urllib's words, which quote what may be a part of a password (COM-9)
        raise URLError(f"{shown}: the port is not a number from 1 to 65535")
    if parts.password is not None:
        raise URLError(
            f"{shown}: a password in a URL is seen by others; it is asked for, or read with --password-stdin"
        )
    if parts.scheme != scheme:
        raise URLError(f'{text}: begins with "{parts.scheme}", not {scheme}://')
    if not parts.hostname:
        raise URLError(f"{text}: names no host; write {scheme}://HOST:PORT")
    if parts.path not in ("", "/") or parts.fragment:
        raise URLError(f"{text}: has a path; write {scheme}://HOST:PORT")
    try:
        options = from_text(settings, dict(parse_qsl(parts.query, keep_blank_values=True)), text)
    except StructureError as error:
        raise URLError("; ".join(error.problems)) from None
    username = unquote(parts.username or "")
    return ServerURL(scheme, username, parts.hostname, port, options)
