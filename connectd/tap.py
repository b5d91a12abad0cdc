"""The face to ``twistd`` and ``twist``: ``connectd`` with a configuration file, and each protocol as a command.

Nothing heavy is imported before a service is made: ``twistd`` loads this for every ``--help``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from twisted.python import usage

import connectd

if TYPE_CHECKING:
    from connectd.config import Configuration
    from connectd.directory.settings import DirectorySettings
    from connectd.ops.daemon import Daemon

DEFAULT_CONFIGURATION = "connectd.toml"
ENVIRONMENT_VARIABLE = "CONNECTD_CONFIG"

DIRECTORY_OPTIONS: Mapping[str, str] = {"directory": "url", "directory-key": "key_file"}
"""Options of a single listener that are keys of the ``[directory]`` table; the first one makes it have a directory."""

DAEMON_OPTIONS: Mapping[str, str] = {"status": "", "admin": "", "events": "log", "log": "text", "drain_timeout": "10"}
"""Keys of the ``[daemon]`` table that are options of a single listener, with their defaults there."""


class _Options(usage.Options):
    """What all our commands have in common."""

    def opt_version(self) -> NoReturn:
        """Display the versions of connectd and Twisted, and exit."""
        from twisted.copyright import version

        print(f"connectd {connectd.__version__}, Twisted {version}")
        sys.exit(0)


class Options(_Options):
    """``twistd connectd``."""

    synopsis = "[--config FILE]"
    longdesc = (
        "Runs every listener of a configuration file, with one policy, one status page and one stream of events. "
        "connectctl init writes a file to begin with, connectctl check tells what is wrong with one."
    )
    optParameters: ClassVar[list[list[Any]]] = [
        [
            "config",
            "c",
            None,
            f"The configuration file. [default: what {ENVIRONMENT_VARIABLE} names, or {DEFAULT_CONFIGURATION}]",
        ],
    ]
    compData = usage.Completions(optActions={"config": usage.CompleteFiles("*.toml")})


def makeService(options: Options) -> Daemon:
    """The service of ``twistd connectd``, with every socket bound and every file open.

    :raises SystemExit: where something cannot be had, after one line on standard error for each.
    """
    from connectd.config import ConfigurationError, load

    path = options["config"] or os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_CONFIGURATION
    try:
        configuration = load(path)
    except ConfigurationError as error:
        _give_up(error.problems)
    return _daemon(configuration, options)


class ListenerOptions(_Options):
    """``twistd PROTOCOL``: one listener, its settings as options. :func:`listener_options` makes the subclasses."""

    protocol: ClassVar[str]
    configuration: Configuration

    def postOptions(self) -> None:
        """Check the values.

        :raises SystemExit: after a line on standard error for each wrong one.
        """
        import attrs

        from connectd import registry
        from connectd.admission import AdmissionLimits
        from connectd.config import Configuration, DaemonSettings, ListenerConfiguration
        from connectd.config.places import resolve

        problems: list[str] = []
        settings = self._read(registry.protocol(self.protocol).settings, problems)
        admission = self._read(AdmissionLimits, problems)
        daemon = self._read(DaemonSettings, problems, {**DAEMON_OPTIONS, "state_dir": ""})
        directory = self._read_directory(problems)
        if settings is not None and not settings.listen:
            problems.append("--listen: is missing (write where, such as tcp:7890:interface=127.0.0.1)")
        auth: tuple[str, ...] = getattr(self, "auth", ())  # where there is AuthOption
        try:
            if auth and settings is not None:
                settings = resolve(attrs.evolve(settings, auth=auth), os.getcwd())
        except ValueError as error:
            problems.append(f"--auth: {error}")
        if problems:
            _give_up(problems)
        listeners = (ListenerConfiguration(self.protocol, settings),)
        self.configuration = Configuration(daemon, admission, listeners, directory)

    def _read_directory(self, problems: list[str]) -> DirectorySettings | None:
        """What ``--directory`` names, or None."""
        from connectd.config import from_text
        from connectd.config.places import resolve
        from connectd.directory.settings import DirectorySettings
        from connectd.structure import StructureError

        given = {key: self[option] for option, key in DIRECTORY_OPTIONS.items() if self[option] is not None}
        if "url" not in given:
            if given:
                problems.append("--directory-key: there is no --directory that it could be the key of")
            return None
        try:
            return resolve(from_text(DirectorySettings, given), os.getcwd())
        except StructureError as error:
            problems.extend(f"--directory: {problem.partition(': ')[2]}" for problem in error.problems)
        return None

    def _read(self, cls: type[Any], problems: list[str], defaults: Mapping[str, str] | None = None) -> Any:
        """A settings object of the options that were given."""
        from connectd.config import from_text
        from connectd.config.places import resolve
        from connectd.structure import StructureError, field_types

        texts = dict(defaults or {})
        for name in field_types(cls):
            value = self.get(_option(name))
            if value is not None:
                texts[name] = value
        try:
            # A daemon changes its directory.
            return resolve(from_text(cls, texts), os.getcwd())
        except StructureError as error:
            for problem in error.problems:
                name, separator, rest = problem.partition(": ")
                problems.append(f"--{_option(name)}: {rest}" if separator else problem)
        return None


def listener_options(protocol_name: str) -> type[ListenerOptions]:
    """The options of ``twistd PROTOCOL``, made from its settings class: each key is an option.

    Keys that hold secrets have none, for everybody on the machine can read a command line.

    :raises SystemExit: where the protocol's plugin does not load, after one line on standard error.
    """
    from connectd import registry
    from connectd.admission import AdmissionLimits
    from connectd.config import DaemonSettings

    try:
        plugin = registry.protocol(protocol_name)
    except registry.RegistryError as error:
        _give_up([str(error)])
    parameters: dict[str, list[Any]] = {}
    for cls in (plugin.settings, AdmissionLimits):
        for field in _fields(cls):
            if field.repr:
                parameters.setdefault(field.name, _parameter(field, _written(field.default)))
    for field in _fields(DaemonSettings):
        if field.name in DAEMON_OPTIONS:
            parameters.setdefault(field.name, _parameter(field, DAEMON_OPTIONS[field.name]))
    for option, name in DIRECTORY_OPTIONS.items():
        parameters.setdefault(option, _directory_parameter(option, name))
    members: dict[str, Any] = {
        "protocol": protocol_name,
        "optParameters": list(parameters.values()),
        "synopsis": "[options]",
        "longdesc": f"{plugin.title}. Runs one listener of it; twistd connectd runs several from a configuration file. "
        "Truth values are yes or no, several values are separated by commas.",
    }
    bases: tuple[type[Any], ...] = (ListenerOptions,)
    if any(field.name == "auth" for field in _fields(plugin.settings)):
        from connectd.auth_option import AuthOption

        bases = (AuthOption, ListenerOptions)
        members["supportedInterfaces"] = getattr(plugin, "credential_interfaces", None)
    return type(f"{protocol_name.capitalize()}Options", bases, members)


def _directory_parameter(option: str, name: str) -> list[Any]:
    from connectd.directory.settings import DirectorySettings

    field = next(field for field in _fields(DirectorySettings) if field.name == name)
    if name == "url":
        return [
            option,
            None,
            None,
            "The directory of accounts and bans: sqlite:///PATH, which is made where there is none. "
            "[default: no directory]",
        ]
    return _parameter(field, _written(field.default), option)


def make_listener(options: ListenerOptions) -> Daemon:
    """The service of ``twistd PROTOCOL``.

    :raises SystemExit: where something cannot be had, after one line on standard error for each.
    """
    return _daemon(options.configuration, options)


def _fields(cls: type[Any]) -> Iterable[Any]:
    import attrs

    fields: Iterable[Any] = attrs.fields(cls)
    return fields


def _option(name: str) -> str:
    """The option for a key. Those that every command has mean what they always do."""
    return f"protocol-{name}" if name in ("help", "version") else name.replace("_", "-")


def _parameter(field: Any, default: str, option: str = "") -> list[Any]:
    """An option for a key. Its default is None, so that only what was given is read."""
    unit = field.metadata.get("unit", "")
    if unit and not unit.startswith("per "):
        unit = f"in {unit}"
    notes = [unit, f"default: {default}" if default else ""]
    note = ", ".join(note for note in notes if note)
    documentation = field.metadata.get("documentation", "")
    return [option or _option(field.name), None, None, f"{documentation} [{note}]" if note else documentation]


def _written(value: Any) -> str:
    """A default as one would write it on a command line."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _daemon(configuration: Configuration, options: usage.Options) -> Daemon:
    from twisted.internet import reactor

    from connectd.ops.daemon import Daemon, StartError
    from connectd.ops.logs import prepare_log
    from connectd.ops.ownership import Owner
    from connectd.ops.process import Signals, fit_to_descriptors, return_large_blocks

    runner: Mapping[str, Any] = {} if options.parent is None else options.parent
    owner = Owner.from_options(runner)
    try:
        return_large_blocks()
        daemon = Daemon(fit_to_descriptors(configuration), reactor=reactor, owner=owner)
        try:
            daemon.log_observer = prepare_log(configuration.daemon.log, runner, owner, reactor)
        except OSError as error:
            daemon.let_go()
            raise StartError([f"log: {error.filename}: {error.strerror}"]) from error
    except StartError as error:
        _give_up(error.problems)
    Signals(reactor, lambda: daemon.listeners, lambda: daemon.stopping).setServiceParent(daemon)
    return daemon


def _give_up(problems: Iterable[str]) -> NoReturn:
    """One line for each reason, and the exit status of a failure."""
    for problem in problems:
        print(f"connectd: {' '.join(problem.split())}", file=sys.stderr)
    raise SystemExit(1)
