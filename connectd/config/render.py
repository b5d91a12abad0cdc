"""The documented configuration file and the tables of keys, made from the settings classes and nothing else."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final

import attrs

from connectd import registry
from connectd.config.load import TABLES
from connectd.interfaces import IProtocol
from connectd.settings import ListenerSettings

WIDTH: Final = 112
"""Characters of a line of documentation, without its comment sign."""

HEADER: Final = """\
The configuration of connectd. Made by connectctl init; connectctl check tells what is wrong with it.

A key that is commented out has the value that it shows, unless the line says otherwise. Relative paths are relative to
this file. An unknown key is an error.
"""


def render() -> str:
    """A whole configuration file: every table and key with its documentation, and the listeners of a demonstration.

    Only what the demonstration needs is active, the rest is commented out.
    """
    parts = ["\n#\n".join(_comment(paragraph) for paragraph in HEADER.split("\n\n"))]
    for name, cls in TABLES.items():
        parts.append(f"\n[{name}]")
        parts.extend(_documented(field, {}) for field in attrs.fields(cls))
    documented = False
    for protocol in registry.protocols().values():
        parts.extend(_listeners(protocol, common=not documented))
        documented = True
    return "\n\n".join(parts) + "\n"


def settings_table(cls: type[Any]) -> str:
    """The keys of a settings class as a Markdown table: key, default, unit, what it is for."""
    rows = ["| key | default | unit | what it is for |", "| --- | --- | --- | --- |"]
    for field in attrs.fields(cls):
        default = "unset" if field.default is None else f"`{toml_value(field.default)}`"
        cells = (f"`{field.name}`", default, field.metadata.get("unit", ""), field.metadata.get("documentation", ""))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def toml_value(value: Any) -> str:
    """A value as TOML writes it.

    :raises TypeError: where TOML has no such value.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        # TOML's basic strings are JSON's, except for DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, IPv4Network | IPv6Network):
        whole = value.prefixlen == value.max_prefixlen
        return f'"{value.network_address if whole else value}"'
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{toml_value(key)} = {toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, Sequence):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    raise TypeError(f"TOML has no way to write a {type(value).__name__}")


def _listeners(protocol: IProtocol, *, common: bool) -> Iterator[str]:
    """The parts of the ``[[listener]]`` tables of a protocol; the first one documents its keys.

    :param common: document in it the keys that all listeners share, too.
    """
    own = [field for field in attrs.fields(protocol.settings) if not _is_common(field)]
    shared = [field for field in attrs.fields(protocol.settings) if _is_common(field)]
    head = f"[[listener]]\nprotocol = {toml_value(protocol.name)}"
    for number, values in enumerate(protocol.demonstration()):
        if number:
            yield "\n".join([f"\n{head}", *(f"{name} = {toml_value(value)}" for name, value in values.items())])
            continue
        yield f"\n{_comment(protocol.title)}\n{head}"
        yield from (_documented(field, values) for field in own)
        if common:
            yield "# Keys that every listener has:"
            yield from (_documented(field, values) for field in shared)
        else:
            yield "\n".join(
                ["# Keys that every listener has, see the first:", *(_line(field, values) for field in shared)]
            )


def _is_common(field: attrs.Attribute[Any]) -> bool:
    """Whether a listener's key is the one that every listener has, not one that its protocol made anew."""
    common = attrs.fields_dict(ListenerSettings).get(field.name)
    return common is not None and (common.default, common.metadata) == (field.default, field.metadata)


def _documented(field: attrs.Attribute[Any], values: Mapping[str, Any]) -> str:
    return f"{_comment(field.metadata.get('documentation', ''))}\n{_line(field, values)}"


def _line(field: attrs.Attribute[Any], values: Mapping[str, Any]) -> str:
    """The line that sets a key: active where there is a value, else commented out with its default or an example."""
    remarks = [unit] if (unit := field.metadata.get("unit")) else []
    default = "unset" if field.default is None else toml_value(field.default)
    example = field.metadata.get("example")
    if field.name not in values and field.default is None and not example:
        return f"# {field.name} is unset."
    if field.name in values:
        line = f"{field.name} = {toml_value(values[field.name])}"
    else:
        line = f"#{field.name} = {example or default}"
        if example:
            remarks.append(f"default: {default}")
    return f"{line}  # {'; '.join(remarks)}" if remarks else line


def _comment(text: str) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
    )
