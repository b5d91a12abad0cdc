"""A look at a FmLTP server, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from connectd.net.client import ConnectionEnded
from connectd.protocols.fmltp.client import Credentials, FmltpDialogue, parse_fmltp_url
from connectd.protocols.fmltp.packets import AUTHENTICATION_SUCCESSFUL
from connectd.protocols.fmltp.work import KeyWork
from connectd.sansio import Outcome


async def probe(url: str, report: Callable[[str, str], None], reactor: Any, password: bytes | None = None) -> None:
    """Exchange keys, log in where there is a password, ask for help, and leave.

    :param url: ``fmltp://[USER@]HOST[:PORT][?minimum_bits=…]``.
    :param report: called with (step, detail) at each step.
    :param password: the user's.
    :raises connectd.net.client.ConnectionEnded: where the server ends it, or does not take the password.
    """
    server = parse_fmltp_url(url)
    credentials = None
    if password is not None:
        try:
            credentials = Credentials(server.username, password.decode())
        except ValueError as error:
            raise ConnectionEnded(Outcome.REFUSED, str(error)) from None
    work = KeyWork(reactor)
    work.startService()
    try:
        dialogue = FmltpDialogue(
            reactor, server.settings, work, interactive=True, report=report, warn=lambda text: report("warning", text)
        )
        report("connect", f"{server.host} port {server.port}")
        greeted = await dialogue.open(server.endpoint(reactor, server.settings.handshake_timeout))
        if not greeted.authentication_required:
            pass
        elif credentials is None:
            report("AUTH", "not tried: the URL names no user")
        else:
            reply = await dialogue.authenticate(credentials.username, credentials.password)
            if reply.code != AUTHENTICATION_SUCCESSFUL.code:
                await dialogue.hang_up()
                raise ConnectionEnded(Outcome.REFUSED, f"the server did not let {server.username} in: {reply}")
        await dialogue.command("HELP")
        await dialogue.command("QUIT")
        await dialogue.when_closed()
    finally:
        await work.stopService()
    report("closed", "left in good order")
