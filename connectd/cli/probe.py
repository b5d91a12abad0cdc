"""``connectctl probe URL``: the connection process of a server, step by step."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote

import click
from twisted.internet.defer import Deferred, maybeDeferred

from connectd import registry
from connectd.cli.invocation import Invocation
from connectd.cli.output import Failed, nobody_reads, print_json_line, printable
from connectd.cli.password import known_password, password_option
from connectd.net import foreground
from connectd.net.url import URLError, without_password

if TYPE_CHECKING:
    from connectd.interfaces import IProtocol


class GaveUp(Exception):
    """The probe took too long."""


class Trace:
    """Prints the steps of a probe as they happen, each with its time.

    :param json: print them as lines of JSON.
    :param clock: seconds, from any beginning.
    """

    def __init__(self, json: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._json = json
        self._clock = clock
        self._started = clock()
        self.last_step = ""

    @property
    def milliseconds(self) -> float:
        """The time since the start."""
        return round((self._clock() - self._started) * 1000, 3)

    def report(self, step: str, detail: str) -> None:
        """Print a step. The time counts from the first: loading what speaks the protocol is no part of its process."""
        if not self.last_step:
            self._started = self._clock()
        self.last_step = step
        try:
            if self._json:
                print_json_line({"milliseconds": self.milliseconds, "step": step, "detail": detail})
            else:
                what = f"{printable(step)}: {printable(detail)}" if detail else printable(step)
                click.echo(f"{self.milliseconds:10.3f} ms  {what}")
        except BrokenPipeError:
            nobody_reads()

    def end(self, problem: str | None = None) -> None:
        """Print how the probe ended, where that is not left to standard error."""
        if self._json:
            ended = {"milliseconds": self.milliseconds, "ok": problem is None}
            print_json_line(ended if problem is None else {**ended, "error": problem})
        elif problem is None:
            click.echo(f"{self.milliseconds:10.3f} ms  the whole process went well")


@click.command()
@click.argument("url")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Give up after so many seconds.",
)
@password_option
@click.pass_obj
def probe(invocation: Invocation, url: str, timeout: float, password_stdin: bool) -> None:
    """Connect to the server at URL as a client, tell each step with its time, and leave again.

    The scheme of the URL is the protocol, its query sets the client's options: lekt://play.example:7890?port=9000

    Where it names an account, starbound://ann@play.example, its password is asked for.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise click.UsageError(f'"{without_password(url)}" is not a URL; write PROTOCOL://HOST:PORT')
    try:
        protocol = registry.protocol(scheme.lower())
    except registry.UnknownProtocol as error:
        raise click.UsageError(str(error)) from error
    except registry.PluginError as error:
        raise Failed(error) from error
    options = _password(protocol, url, from_stdin=password_stdin)
    trace = Trace(invocation.json)

    def give_up(result: Any, seconds: float) -> NoReturn:
        after = f"; the last step was {trace.last_step}" if trace.last_step else ""
        raise GaveUp(f"gave up after {seconds:g} seconds{after}")

    async def work(reactor: Any) -> None:
        probing: Deferred[None] = maybeDeferred(protocol.probe, url, trace.report, reactor, **options)
        await probing.addTimeout(timeout, reactor, give_up)

    try:
        problem = None if foreground.run(work) else "interrupted"
    except URLError as error:
        raise click.UsageError(str(error)) from error
    except Exception as error:
        problem = str(error) or type(error).__name__
    trace.end(problem)
    if problem is not None:
        raise Failed(f"{without_password(url)}: {problem}")


def _password(protocol: IProtocol, url: str, *, from_stdin: bool) -> dict[str, bytes]:
    """The keyword of :meth:`IProtocol.probe` for the password, where there is one to be had.

    :raises click.UsageError: where one is given to a protocol that has no use for it.
    :raises Failed: where it cannot be had.
    """
    if not getattr(protocol, "takes_password", False):
        if from_stdin:
            raise click.UsageError(f"{protocol.name} takes no password; leave --password-stdin out")
        return {}
    account, _, _ = re.split("[/?#]", url.partition("://")[2], maxsplit=1)[0].rpartition("@")
    if ":" in account or not (account or from_stdin):  # a password in it is refused by whoever reads the URL
        return {}
    needs_password: Any = getattr(protocol, "needs_password", None)
    if needs_password is not None and not from_stdin and not needs_password(url):
        return {}
    return {"password": known_password(unquote(account) or "the server", from_stdin=from_stdin).encode()}
