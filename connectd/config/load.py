"""Reading a configuration file: TOML in, settings objects out, or all mistakes at once."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from typing import Any, Final

import attrs

from connectd import registry
from connectd.admission.limits import AdmissionLimits
from connectd.config.daemon import LOG, DaemonSettings
from connectd.config.errors import ConfigurationError
from connectd.config.places import absolute, collide, endpoints, resolve
from connectd.directory.settings import DirectorySettings
from connectd.net.endpoint import EndpointDescription, EndpointError, parse_endpoint
from connectd.settings import ListenerSettings
from connectd.structure import StructureError, structure
from connectd.suggestions import did_you_mean

TABLES: Final[Mapping[str, type[Any]]] = {
    "daemon": DaemonSettings,
    "directory": DirectorySettings,
    "admission": AdmissionLimits,
}
"""The settings classes of the tables that there is one of."""


@attrs.frozen
class ListenerConfiguration:
    """One ``[[listener]]``.

    :param protocol: the protocol's name.
    :param settings: an instance of the protocol's settings class.
    """

    protocol: str
    settings: ListenerSettings


@attrs.frozen
class Configuration:
    """A whole configuration file, without mistakes; all its paths are absolute.

    :param directory: None for a daemon without accounts and bans; a file always has one.
    """

    daemon: DaemonSettings
    admission: AdmissionLimits
    listeners: tuple[ListenerConfiguration, ...]
    directory: DirectorySettings | None = None


def load(path: str | os.PathLike[str]) -> Configuration:
    """Read a configuration file.

    :param path: the file; relative paths in it are relative to its folder, and problems begin with it as it is given.
    :raises ConfigurationError: with every mistake in it.
    """
    name = os.fspath(path)
    return _Reading(name, os.path.dirname(os.path.abspath(name))).configuration(_document(name))


def _document(name: str) -> dict[str, Any]:
    try:
        with open(name, "rb") as file:
            return tomllib.loads(file.read().decode())
    except FileNotFoundError as error:
        hint = "connectctl init makes one, --config names another"
        raise ConfigurationError([f"{name}: cannot be read: {error.strerror} ({hint})"]) from error
    except OSError as error:
        raise ConfigurationError([f"{name}: cannot be read: {error.strerror or error}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError([f"{name}: is not UTF-8 text: byte {error.start + 1} is wrong"]) from error
    except ValueError as error:
        # TOMLDecodeError, or a number of more digits than Python reads.
        raise ConfigurationError([f"{name}: is not TOML: {error}"]) from error
    except RecursionError as error:
        raise ConfigurationError([f"{name}: is nested too deeply"]) from error


class _Reading:
    """One reading of one file: its problems, and the places that are taken.

    :param name: the file, for messages.
    :param folder: what relative paths are relative to.
    """

    def __init__(self, name: str, folder: str) -> None:
        self.name = name
        self.folder = folder
        self.problems: list[str] = []
        self.taken: list[tuple[EndpointDescription, str]] = []

    def configuration(self, document: dict[str, Any]) -> Configuration:
        known = [*TABLES, "listener"]
        for key in document:
            if key not in known:
                self.problem(f"{key}: unknown table{did_you_mean(key, known)}")
        tables = {table: self.table(table, document.get(table, {})) for table in TABLES}
        listeners = self.listeners(document.get("listener", []))
        if self.problems:
            raise ConfigurationError(self.problems)
        return Configuration(tables["daemon"], tables["admission"], tuple(listeners), tables["directory"])

    def problem(self, text: str) -> None:
        self.problems.append(f"{self.name}: {text}")

    def structure(self, cls: type[Any], table: Mapping[str, Any], where: str) -> Any:
        """A settings object with absolute paths, or None, its problems noted."""
        try:
            return resolve(structure(cls, table, f"{self.name}: {where}"), self.folder)
        except StructureError as error:
            self.problems.extend(error.problems)
            return None

    def table(self, name: str, table: Any) -> Any:
        where = f"[{name}]"
        if not isinstance(table, dict):
            self.problem(f"{where}: must be a table" + (", with single brackets" if isinstance(table, list) else ""))
            return None
        settings = self.structure(TABLES[name], table, where)
        if isinstance(settings, DaemonSettings):
            settings = self.daemon(settings, where)
        if settings is not None:
            self.take_places(settings, where)
        return settings

    def daemon(self, settings: DaemonSettings, where: str) -> DaemonSettings:
        for name in settings.event_sinks:
            try:
                registry.event_sink(name)
            except registry.EventSinkError as error:
                self.problem(f"{where}: event_sinks: {error}")
        if settings.events == LOG:
            return settings
        return attrs.evolve(settings, events=absolute(settings.events, self.folder))

    def listeners(self, tables: Any) -> list[ListenerConfiguration]:
        if isinstance(tables, dict):
            self.problem("[listener]: write [[listener]], with double brackets, for each listener")
            return []
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self.problem("listener: must be tables: write [[listener]] for each listener")
            return []
        if not tables:
            self.problem("there is no listener: write [[listener]] with at least a protocol")
        read = (self.listener(number, table) for number, table in enumerate(tables, 1))
        return [listener for listener in read if listener is not None]

    def listener(self, number: int, table: dict[str, Any]) -> ListenerConfiguration | None:
        where = f"[[listener]] {number}"
        name = table.get("protocol")
        if not isinstance(name, str):
            what = "is missing" if name is None else "must be text in quotes"
            self.problem(f"{where}: protocol: {what}; known are {', '.join(registry.protocol_names())}")
            return None
        try:
            protocol = registry.protocol(name)
        except registry.RegistryError as error:
            self.problem(f"{where}: protocol: {error}")
            return None
        where = f"{where} ({name})"
        values = {key: value for key, value in table.items() if key != "protocol"}
        settings: ListenerSettings | None = self.structure(protocol.settings, values, where)
        if settings is None:
            return None
        self.check_listen(settings, where)
        try:
            registry.check_handler(settings.handler)
        except registry.HandlerError as error:
            self.problem(f"{where}: handler: {error}")
        self.take_places(settings, where)
        return ListenerConfiguration(name, settings)

    def check_listen(self, settings: ListenerSettings, where: str) -> None:
        if not settings.listen:
            self.problem(f'{where}: listen: is missing; write where, such as listen = "tcp:7000:interface=127.0.0.1"')
            return
        try:
            parse_endpoint(settings.listen)
        except EndpointError as error:
            self.problem(f"{where}: listen: {error}")

    def take_places(self, settings: Any, where: str) -> None:
        """Note where something will listen; two cannot listen on the same place."""
        for key, place in endpoints(settings):
            owner = f"{where}: {key}"
            for other, other_owner in self.taken:
                if collide(place, other):
                    same = "is the same place as" if place == other else f"overlaps with {other} of"
                    self.problem(f"{owner}: {place} {same} {other_owner}; one of them has to move")
                    break
            self.taken.append((place, owner))
