"""Where to listen, as text: ``tcp:PORT``, ``udp:PORT``, ``unix:PATH``, ``systemd:name=NAME``."""

from __future__ import annotations

import re
import socket
from ipaddress import IPv6Address, ip_address
from typing import Final, Literal, cast

import attrs

DEFAULT_BACKLOG: Final = 1024
"""Connections that may wait to be accepted; Twisted's 50 drops connections in any burst."""

DEFAULT_MODE: Final = 0o600
"""Permissions of a unix socket that names none: for its owner only."""

MAX_INHERITED: Final = 1024
"""Most descriptors that are taken over from systemd; a larger LISTEN_FDS is an error."""

_MAX_SHOWN: Final = 300

_Kind = Literal["tcp", "udp", "unix", "systemd"]
SocketKind = Literal["stream", "datagram"]

_FORMS: Final = {
    "tcp": "tcp:PORT[:interface=ADDRESS][:backlog=N]",
    "udp": "udp:PORT[:interface=ADDRESS]",
    "unix": "unix:PATH[:mode=600]",
    "systemd": "systemd:name=NAME or systemd:index=N, with [:domain=INET|INET6|UNIX][:kind=stream|datagram]",
}
_OPTIONS: Final = {
    "tcp": ("interface", "backlog"),
    "udp": ("interface",),
    "unix": ("mode",),
    "systemd": ("name", "index", "domain", "kind"),
}
DOMAINS: Final = {"INET": socket.AF_INET, "INET6": socket.AF_INET6, "UNIX": socket.AF_UNIX}
SOCKET_TYPES: Final = {"stream": socket.SOCK_STREAM, "datagram": socket.SOCK_DGRAM}


class EndpointError(ValueError):
    """An endpoint text cannot be read: one line that names the text, the fault and the accepted form."""


def shown(text: str) -> str:
    """Make a text fit for one line of a message: no control characters, no endless length."""
    text = text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
    return "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)


@attrs.frozen
class EndpointDescription:
    """
    Where to listen, as `parse_endpoint` reads it. ``str()`` gives the canonical text, which reads back as the same.

    :param kind: ``tcp``, ``udp``, ``unix`` or ``systemd``; it decides which of the others mean anything.
    :param port: TCP or UDP port; 0 lets the kernel choose.
    :param interface: numeric address; None means all interfaces, IPv6 and IPv4.
    :param backlog: connections that may wait to be accepted (tcp; also used for unix).
    :param path: path of a unix socket.
    :param mode: permission bits of a unix socket.
    :param name: name of an inherited socket (systemd's ``FileDescriptorName=``).
    :param index: number of an inherited socket, the first is 0.
    :param domain: ``INET``, ``INET6`` or ``UNIX``: only an inherited socket of this family.
    :param socket_kind: ``stream`` or ``datagram``: only an inherited socket of this type.
    """

    kind: _Kind
    port: int = 0
    interface: str | None = None
    backlog: int = DEFAULT_BACKLOG
    path: str = ""
    mode: int = DEFAULT_MODE
    name: str | None = None
    index: int | None = None
    domain: str | None = None
    socket_kind: SocketKind | None = None

    def __str__(self) -> str:
        if self.kind == "unix":
            text = f"unix:{_escape(self.path)}"
            return text if self.mode == DEFAULT_MODE else f"{text}:mode={self.mode:03o}"
        if self.kind == "systemd":
            text = f"systemd:index={self.index}" if self.name is None else f"systemd:name={_escape(self.name)}"
            text += "" if self.domain is None else f":domain={self.domain}"
            return text if self.socket_kind is None else f"{text}:kind={self.socket_kind}"
        text = f"{self.kind}:{self.port}"
        if self.interface is not None:
            text += f":interface=[{self.interface}]" if ":" in self.interface else f":interface={self.interface}"
        return text if self.backlog == DEFAULT_BACKLOG else f"{text}:backlog={self.backlog}"


def _escape(text: str) -> str:
    return re.sub(r"([\\:=])", r"\\\1", text)


def parse_endpoint(text: str) -> EndpointDescription:
    r"""
    Read an endpoint text.

    ``tcp:PORT[:interface=ADDRESS][:backlog=N]``, ``udp:PORT[:interface=ADDRESS]``, ``unix:PATH[:mode=600]``,
    ``systemd:name=NAME`` or ``systemd:index=N``, the last two with ``:domain=INET|INET6|UNIX`` and
    ``:kind=stream|datagram`` to narrow the choice. A backslash takes the next character literally, as in Twisted's
    endpoint strings: ``interface=\:\:1``; an IPv6 address may also stand in brackets: ``interface=[::1]``.

    Without an interface, a socket listens on all of them, for IPv6 and IPv4 alike (as ``interface=[::]`` does);
    ``localhost`` means 127.0.0.1.

    :raises EndpointError: the text is none of these.
    """
    form = "; ".join(_FORMS.values())
    try:
        fields = _split(text)
        option, kind = fields.pop(0)
        kind = "" if option else kind.lower()
        if kind not in _FORMS:
            raise _FieldError("it begins with none of the known kinds" if text else "it is empty")
        form = _FORMS[kind]
        return _describe(cast("_Kind", kind), fields)
    except _FieldError as fault:
        raise EndpointError(f"cannot read endpoint '{shown(text)}': {fault} (write {form})") from None


class _FieldError(Exception):
    """What is wrong with a part of an endpoint text."""


def _split(text: str) -> list[tuple[str, str]]:
    """Split an endpoint text at its colons into (option, value); the option is empty where there is none."""
    fields: list[tuple[str, str]] = []
    option = ""
    current: list[str] = []
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character == "\\":
            if position == len(text):
                raise _FieldError("it ends in a backslash that escapes nothing")
            current.append(text[position])
            position += 1
        elif character == "[" and option == "interface" and not current:
            end = text.find("]", position) + 1
            if not end:
                raise _FieldError("the bracket of the address is not closed")
            current.append(text[position - 1 : end])
            position = end
        elif character == ":":
            fields.append((option, "".join(current)))
            option, current = "", []
        elif character == "=" and not option:
            option, current = "".join(current), []
            if not option:
                raise _FieldError("an option has no name before its equals sign")
        else:
            current.append(character)
    fields.append((option, "".join(current)))
    return fields


def _describe(kind: _Kind, fields: list[tuple[str, str]]) -> EndpointDescription:
    """Make the description from the fields after the kind."""
    first = "" if kind == "systemd" or not fields or fields[0][0] else fields.pop(0)[1]
    options: dict[str, str] = {}
    for option, value in fields:
        if option == "interface" and not value:
            raise _FieldError("the interface has no value, or is an IPv6 address without brackets: interface=[::1]")
        if not option:
            hint = "; an IPv6 address needs brackets: interface=[::1]" if "interface" in options else ""
            raise _FieldError(f"the part '{shown(value)}' is not an option{hint}")
        if option not in _OPTIONS[kind]:
            raise _FieldError(f"{kind} has no option '{shown(option)}'")
        if option in options:
            raise _FieldError(f"the option {option} is there twice")
        if not value:
            raise _FieldError(f"the option {option} has no value")
        options[option] = value
    if kind == "systemd":
        return _describe_systemd(options)
    if kind == "unix":
        if not first:
            raise _FieldError("the path is missing")
        if "\0" in first:
            raise _FieldError("the path contains a zero byte")
        mode = options.get("mode", "600")
        if re.fullmatch("0?[0-7]{3}", mode) is None:
            raise _FieldError(f"the mode '{shown(mode)}' is not three octal digits")
        return EndpointDescription("unix", path=first, mode=int(mode, 8))
    return EndpointDescription(
        kind,
        port=_number("port", first, 0, 65535),
        interface=_interface(options["interface"]) if "interface" in options else None,
        backlog=_number("backlog", options.get("backlog", str(DEFAULT_BACKLOG)), 1, 65535),
    )


def _describe_systemd(options: dict[str, str]) -> EndpointDescription:
    if ("name" in options) == ("index" in options):
        raise _FieldError("it takes either a name or an index")
    domain = options["domain"].upper() if "domain" in options else None
    if domain is not None and domain not in DOMAINS:
        raise _FieldError(f"the domain '{shown(options['domain'])}' is not INET, INET6 or UNIX")
    socket_kind = options["kind"].lower() if "kind" in options else None
    if socket_kind is not None and socket_kind not in SOCKET_TYPES:
        raise _FieldError(f"the kind '{shown(options['kind'])}' is not stream or datagram")
    if domain == "UNIX" and socket_kind == "datagram":
        raise _FieldError("unix datagram sockets are not supported")
    return EndpointDescription(
        "systemd",
        name=options.get("name"),
        index=_number("index", options["index"], 0, MAX_INHERITED - 1) if "index" in options else None,
        domain=domain,
        socket_kind=cast("SocketKind | None", socket_kind),
    )


def _number(name: str, text: str, minimum: int, maximum: int) -> int:
    allowed = f"(a number from {minimum} to {maximum})"
    if not text:
        raise _FieldError(f"the {name} is missing {allowed}")
    if re.fullmatch("[0-9]{1,5}", text) is None or not minimum <= int(text) <= maximum:
        raise _FieldError(f"the {name} '{shown(text)}' is not possible {allowed}")
    return int(text)


def _interface(text: str) -> str:
    """Give the canonical spelling of an interface's address."""
    if text.lower() == "localhost":
        return "127.0.0.1"
    bracketed = text.startswith("[") and text.endswith("]")
    try:
        address = ip_address(text[1:-1] if bracketed else text)
    except ValueError:
        raise _FieldError(
            f"the interface '{shown(text)}' is not a numeric address or localhost (write the address itself, "
            "not a name)"
        ) from None
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or address)
    if bracketed:
        raise _FieldError("brackets are for an IPv6 address")
    return str(address)
