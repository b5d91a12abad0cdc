"""The group of connectctl's commands: each is imported when it is called, and every failure is one line."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, NoReturn

import attrs
import click

from connectd.cli.invocation import add_shared_options
from connectd.cli.output import Failed, nobody_reads, print_error
from connectd.suggestions import did_you_mean

SUCCESS = 0
FAILURE = 1
USAGE = 2


@attrs.frozen
class LazyCommand:
    """A command that is imported when somebody calls it.

    :param module: the full name of its module.
    :param attribute: the click command in it.
    :param help: one line for the listing.
    """

    module: str
    attribute: str
    help: str

    def load(self) -> click.Command:
        command: click.Command = getattr(import_module(self.module), self.attribute)
        return command


class LazyGroup(click.Group):
    """A group of :class:`LazyCommand`, and of the commands that protocols bring under their names.

    The listing imports none of them. Exit statuses are 0 for success, 1 for refused or failed, 2 for wrong usage; what
    went wrong is one line on standard error, never a traceback.
    """

    def __init__(self, *arguments: Any, lazy: Mapping[str, LazyCommand], **options: Any) -> None:
        """:param lazy: the commands by name, in the order of the listing."""
        super().__init__(*arguments, **options)
        self.lazy = lazy

    # What click asks

    def list_commands(self, context: click.Context) -> list[str]:
        return [*self.lazy, *(name for name in _protocol_names() if name not in self.lazy)]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in self.lazy:
            return add_shared_options(self.lazy[name].load())
        if name not in _protocol_names():
            return None
        return add_shared_options(_protocol_commands(name))

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = arguments[0]
        known = self.list_commands(context)
        if name not in known and not name.startswith("-"):
            context.fail(f'there is no command "{name}"{did_you_mean(name, known)}')
        return super().resolve_command(context, arguments)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in self.lazy.items()])
        if own := self.list_commands(context)[len(self.lazy) :]:
            with formatter.section("Commands of protocols"):
                formatter.write_dl([(name, f"What only {name} has: connectctl {name} --help") for name in own])

    # How it ends

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **options: Any) -> NoReturn:  # type: ignore[override]
        """Run a command line, and leave the process with its exit status."""
        options["standalone_mode"] = False
        with _one_line_for_everything():
            status = super().main(args, prog_name or "connectctl", **options)
            # With standalone_mode off, click returns the status of --help and the like, and else what commands return.
            sys.exit(status if isinstance(status, int) else SUCCESS)


def _protocol_names() -> list[str]:
    from connectd.registry import protocol_names

    return protocol_names()


def _protocol_commands(name: str) -> click.Command:
    from connectd import registry

    try:
        plugin = registry.protocol(name)
        commands = plugin.commands()
    except Exception as error:
        raise Failed(_text(error)) from error
    if not isinstance(commands, click.Command):
        raise click.UsageError(f"{name} has no commands of its own")
    return commands


@contextlib.contextmanager
def _one_line_for_everything() -> Iterator[None]:
    try:
        yield
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(USAGE)
    except click.UsageError as error:
        asked = f" (see {error.ctx.command_path} --help)" if error.ctx is not None else ""
        print_error(f"{error.format_message()}{asked}")
        sys.exit(USAGE)
    except click.ClickException as error:
        print_error(error.format_message())
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        print_error("interrupted")
        sys.exit(FAILURE)
    except BrokenPipeError:
        nobody_reads()
        sys.exit(FAILURE)
    except Exception as error:
        message, status = _told(error)
        print_error(message)
        sys.exit(status)


def _told(error: Exception) -> tuple[str, int]:
    """One line for whatever a command raised, and the exit status.

    What talking with a server ends in needs no care of the command: a wrong URL, no server there, a refusal.
    """
    from twisted.internet.error import CannotListenError, ConnectError, DNSLookupError

    from connectd.net.client import ConnectionEnded
    from connectd.net.url import URLError

    if isinstance(error, URLError):
        return str(error), USAGE
    if isinstance(error, (ConnectionEnded, ConnectError, DNSLookupError, CannotListenError)):
        return _text(error), FAILURE
    return _fault(error), FAILURE


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _fault(error: Exception) -> str:
    """An error that nobody foresaw, with the place where it happened."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"unexpected {type(error).__name__}{place}: {error}"
