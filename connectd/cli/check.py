"""``connectctl check``: what would listen where, how the directory is, or every mistake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import click

from connectd import registry
from connectd.cli.check_directory import look_at_directory
from connectd.cli.invocation import Invocation
from connectd.cli.output import Failed, print_error, print_json, print_line, print_table
from connectd.config import Configuration, ConfigurationError, load
from connectd.config.places import endpoints
from connectd.credentials import CredentialsError, make_checker


@click.command()
@click.pass_obj
def check(invocation: Invocation) -> None:
    """Read the configuration and tell what would listen where, and look at the directory and its sealing key.

    Every mistake is told, one line each; the exit status is 1 then.
    """
    try:
        configuration = load(invocation.config)
    except ConfigurationError as error:
        _tell_mistakes(invocation, error.problems)
    report = look_at_directory(configuration)
    problems = [*report.problems, *_checker_problems(configuration)]
    for listener in configuration.listeners:
        problems.extend(f"{listener.protocol}: {problem}" for problem in listener.settings.look())
    if problems:
        _tell_mistakes(invocation, problems)
    places = _places(configuration)
    if invocation.json:
        print_json(
            {
                "file": invocation.config,
                "problems": [],
                "places": places,
                "directory": report.facts,
                "hints": report.hints,
            }
        )
        return
    print_table(
        ("what", "key", "place", "handler"),
        [(place["what"], place["key"], place["place"], place["handler"]) for place in places],
    )
    for line in (*report.lines, *report.hints):
        print_line(line)
    print_line(f"{invocation.config}: no mistakes")


def _tell_mistakes(invocation: Invocation, problems: Sequence[str]) -> NoReturn:
    count = len(problems)
    if invocation.json:
        print_json({"file": invocation.config, "problems": problems, "places": []})
    else:
        for problem in problems:
            print_error(problem)
    raise Failed(f"{invocation.config}: {count} mistake{'s' if count != 1 else ''}")


def _checker_problems(configuration: Configuration) -> list[str]:
    """What is wrong with the checkers that listeners have instead of the directory."""
    problems: list[str] = []
    for listener in configuration.listeners:
        interfaces: Any = getattr(registry.protocol(listener.protocol), "credential_interfaces", None)
        for text in getattr(listener.settings, "auth", ()) if interfaces is not None else ():
            try:
                make_checker(listener.protocol, interfaces, text)
            except CredentialsError as error:
                problems.append(str(error))
    return problems


def _places(configuration: Configuration) -> list[dict[str, Any]]:
    """Everything that would listen, in the order of the file."""
    places = [
        {"what": "connectd", "key": key, "place": str(place), "handler": ""}
        for key, place in endpoints(configuration.daemon)
    ]
    for listener in configuration.listeners:
        places.extend(
            {"what": listener.protocol, "key": key, "place": str(place), "handler": listener.settings.handler}
            for key, place in endpoints(listener.settings)
        )
    return places
