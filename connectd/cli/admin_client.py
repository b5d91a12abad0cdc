"""Talking to the running daemon: JSON over HTTP on its admin socket (:mod:`connectd.ops.admin`), one call at a time."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from connectd.cli.output import Failed
from connectd.net.endpoint import EndpointError, parse_endpoint

if TYPE_CHECKING:
    from connectd.cli.invocation import Invocation

TIMEOUT = 30.0
"""Seconds without a byte from the daemon after which a call is given up."""

_GROUP_ADMIN = f"{__name__}.admin"

LONGEST_ANSWER = 64 * 1024 * 1024
"""Bytes of an answer that are read."""


class AdminError(Failed):
    """The daemon cannot be asked, or says no: one line."""

    def __init__(self, message: str, status: int = 0) -> None:
        """:param status: the HTTP status code of the daemon's no, or 0."""
        super().__init__(message)
        self.status = status


class _UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("connectd", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._path)
        except BaseException:
            self.sock.close()
            raise


class AdminClient:
    """Asks one daemon.

    :param place: its admin socket, ``unix:PATH``.
    :param timeout: seconds to wait for it.
    :raises AdminError: where the place is no Unix socket.
    """

    def __init__(self, place: str, timeout: float = TIMEOUT) -> None:
        self.place = place
        self._path = _path_of(place)
        self._timeout = timeout

    def get(self, path: str, **query: object) -> Any:
        """What the daemon answers to a question.

        :raises AdminError: where it does not, or says no.
        """
        text = urlencode({name: value for name, value in query.items() if value not in (None, "")})
        return self._ask("GET", f"{path}?{text}" if text else path, None)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """What the daemon answers to a demand.

        :raises AdminError: where it does not, or says no.
        """
        return self._ask("POST", path, json.dumps(body).encode())

    def _ask(self, method: str, path: str, body: bytes | None) -> Any:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection = _UnixConnection(self._path, self._timeout)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            if answer.getheader("Server") != "connectd":
                raise HTTPException
            status, content = answer.status, answer.read(LONGEST_ANSWER)
            if answer.length:
                raise ConnectionError(f"its answer ended {answer.length} bytes early")
        except (FileNotFoundError, ConnectionRefusedError):
            raise AdminError(
                f"the daemon is not running: nobody answers on {self.place} (start it, or say where it is with --admin)"
            ) from None
        except PermissionError:
            raise AdminError(
                f"permission denied to {self.place}: only the user that the daemon runs as may ask it (be that user)"
            ) from None
        except TimeoutError:
            raise AdminError(f"the daemon on {self.place} did not answer within {self._timeout:g} s") from None
        except HTTPException:
            raise AdminError(f"what answers on {self.place} is not connectd") from None
        except OSError as error:
            raise AdminError(f"the daemon on {self.place} cannot be asked: {error.strerror or error}") from None
        finally:
            connection.close()
        return self._value(status, content)

    def _value(self, status: int, content: bytes) -> Any:
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            raise AdminError(f"what answers on {self.place} is not connectd") from None
        if status >= 400:
            problem = value.get("error") if isinstance(value, dict) else None
            raise AdminError(str(problem or f"the daemon answered with status {status}"), status)
        return value


def _path_of(place: str) -> str:
    try:
        description = parse_endpoint(place)
    except EndpointError as error:
        raise AdminError(f"--admin: {error}") from None
    if description.kind != "unix":
        raise AdminError(f"the admin socket {place} is not reached by a path; write --admin unix:PATH")
    return os.path.abspath(description.path)


def admin_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option ``--admin`` of a command, for :func:`admin_client`."""
    return click.option(
        "--admin",
        metavar="unix:PATH",
        help="The admin socket of the daemon; without it, what the configuration says.",
    )(command)


def remember_admin(context: click.Context, admin: str | None) -> None:
    """Let the ``--admin`` of a group hold for the command below it that has none of its own."""
    context.meta[_GROUP_ADMIN] = admin


def admin_client(invocation: Invocation, admin: str | None) -> AdminClient:
    """The client for the daemon that a command means.

    :param admin: the value of :func:`admin_option`; that of the command's group stands in for it.
    :raises connectd.cli.output.Failed: where neither it nor the configuration says where the daemon is.
    """
    place = admin or click.get_current_context().meta.get(_GROUP_ADMIN) or invocation.configuration().daemon.admin
    if not place:
        raise AdminError(f'{invocation.config}: the daemon has no admin socket (set admin = "unix:PATH" in [daemon])')
    return AdminClient(place)
