"""What a call of connectctl was told for all its commands: the configuration and the form of the output.

Every command finds it as ``context.obj``::

    @click.command()
    @click.pass_obj
    def status(invocation: Invocation) -> None:
        configuration = invocation.configuration()
        if invocation.json:
            …

``--config`` and ``--json`` work before the command and after it: the group adds them to each command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import click

from connectd.cli.output import Failed, print_error

if TYPE_CHECKING:
    from connectd.config import Configuration

DEFAULT_CONFIGURATION = "connectd.toml"
ENVIRONMENT_VARIABLE = "CONNECTD_CONFIG"


@attrs.define
class Invocation:
    """One call of connectctl.

    :param config: the path of the configuration file.
    :param json: print JSON.
    """

    config: str = DEFAULT_CONFIGURATION
    json: bool = False

    def configuration(self) -> Configuration:
        """The configuration, or the end of the command with one line for each of its mistakes."""
        from connectd.config import ConfigurationError, load

        try:
            return load(self.config)
        except ConfigurationError as error:
            *most, last = error.problems
            for problem in most:
                print_error(problem)
            raise Failed(last) from error


def _take_config(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Invocation).config = value


def _take_json(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Invocation).json = True


def shared_options(*, environment: bool = False) -> list[click.Parameter]:
    """New ``--config`` and ``--json`` options that write into the :class:`Invocation`.

    :param environment: let ``CONNECTD_CONFIG`` stand for ``--config``.
    """
    config = click.Option(
        ["--config"],
        metavar="FILE",
        envvar=ENVIRONMENT_VARIABLE if environment else None,
        expose_value=False,
        callback=_take_config,
        help=f"The configuration file; {DEFAULT_CONFIGURATION}, or what {ENVIRONMENT_VARIABLE} names.",
    )
    json_option = click.Option(
        ["--json"], is_flag=True, expose_value=False, callback=_take_json, help="Print JSON instead of text."
    )
    return [config, json_option]


def add_shared_options(command: click.Command) -> click.Command:
    """Give a command, and all below it, the shared options that it has no own words for."""
    if isinstance(command, click.Group):
        for below in command.commands.values():
            add_shared_options(below)
        return command
    taken = {word for parameter in command.params for word in parameter.opts}
    command.params.extend(option for option in shared_options() if taken.isdisjoint(option.opts))
    return command
