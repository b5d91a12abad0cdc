"""Where settings say that something is: paths relative to the configuration file, and sockets that get in each other's
way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address
from typing import Any, TypeVar
from urllib.parse import quote, unquote

import attrs

from connectd.net.endpoint import EndpointDescription, EndpointError, parse_endpoint

T = TypeVar("T", bound=Any)

FORWARD_UNIX = "forward:unix:"
SQLITE = "sqlite:///"
CHECKER_FILE = "file:"


def absolute(path: str, folder: str) -> str:
    """A path relative to a folder, as an absolute one. The empty path, which is none, stays."""
    return os.path.abspath(os.path.join(folder, path)) if path else path


def resolve(settings: T, folder: str) -> T:
    """The settings with every relative path made absolute: path keys, ``unix:`` endpoints, ``forward:unix:``,
    ``sqlite:///``, and the ``file:`` checkers of ``auth``.

    :param folder: the absolute path of the folder that the paths are relative to.
    """
    changes: dict[str, Any] = {}
    for field in attrs.fields(type(settings)):
        value = getattr(settings, field.name)
        if field.name == "auth" and isinstance(value, tuple):
            resolved = tuple(_resolved_checker(checker, folder) for checker in value)
        else:
            is_path = bool(field.metadata.get("path")) and value not in field.metadata.get("words", ())
            resolved = _resolved(value, folder, is_path=is_path)
        if resolved != value:
            changes[field.alias] = resolved
    return attrs.evolve(settings, **changes) if changes else settings


def _resolved(value: Any, folder: str, *, is_path: bool) -> Any:
    if isinstance(value, tuple):
        return tuple(_resolved(item, folder, is_path=is_path) for item in value)
    if not isinstance(value, str):
        return value
    if is_path:
        return absolute(value, folder)
    if value.startswith("unix:"):
        try:
            description = parse_endpoint(value)
        except EndpointError:
            return value
        return str(attrs.evolve(description, path=absolute(description.path, folder)))
    if value.startswith(FORWARD_UNIX):
        return FORWARD_UNIX + absolute(value.removeprefix(FORWARD_UNIX), folder)
    if value.startswith(SQLITE):
        return SQLITE + quote(absolute(unquote(value.removeprefix(SQLITE)), folder))
    return value


def _resolved_checker(checker: str, folder: str) -> str:
    if not checker.startswith(CHECKER_FILE):
        return checker
    return CHECKER_FILE + absolute(checker.removeprefix(CHECKER_FILE), folder)


def endpoints(settings: Any) -> Iterator[tuple[str, EndpointDescription]]:
    """The keys of a settings object whose texts say where to listen, with what they say."""
    for field in attrs.fields(type(settings)):
        value = getattr(settings, field.name)
        if isinstance(value, str) and value.startswith(("tcp:", "udp:", "unix:", "systemd:")):
            try:
                yield field.name, parse_endpoint(value)
            except EndpointError:
                # Such as the address of another server, tcp:HOST:PORT.
                continue


def collide(one: EndpointDescription, other: EndpointDescription) -> bool:
    """Whether two sockets cannot be had at the same time."""
    if one.kind != other.kind:
        return False
    if one.kind == "unix":
        return one.path == other.path
    if one.kind == "systemd":
        return one == other
    return one.port == other.port != 0 and _overlap(one.interface, other.interface)


def _overlap(one: str | None, other: str | None) -> bool:
    """Whether two interfaces share addresses. All interfaces of IPv6 include those of IPv4 (:mod:`net.sockets`)."""
    first, second = ip_address(one or "::"), ip_address(other or "::")
    if first == second:
        return True
    for wide, narrow in ((first, second), (second, first)):
        if wide.is_unspecified and (wide.version == 6 or isinstance(narrow, IPv4Address)):
            return True
    return False
