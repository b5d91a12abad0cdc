"""What a benchmark is: a claim, how to measure it, and against what."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

PAIRS = 9
"""Pairs that a verdict takes; single ones tell about the machine."""


@attrs.frozen
class Sample:
    """One measurement, in fresh processes.

    :param value: what is compared.
    :param notes: what else came to light, by a label with its unit.
    """

    value: float
    notes: Mapping[str, float] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Benchmark:
    """A claim about what something costs: compared with a baseline, or with a fixed number.

    :param name: the word for it on the command line.
    :param claim: what is claimed, in one sentence.
    :param unit: of the values.
    :param subject: measures what the claim is about.
    :param baseline: measures what it is compared with.
    :param baseline_name: what that is.
    :param most: the largest ratio of subject and baseline that keeps the claim.
    :param least: the smallest one.
    :param most_value: the largest value of the subject that keeps the claim.
    :param least_value: the smallest one.
    :param exact: its values are counts, which come out the same each time: one pair is enough.
    """

    name: str
    claim: str
    unit: str
    subject: Callable[[], Sample]
    baseline: Callable[[], Sample]
    baseline_name: str
    most: float | None = None
    least: float | None = None
    most_value: float | None = None
    least_value: float | None = None
    exact: bool = False

    @property
    def limits(self) -> str:
        """What keeps the claim, for people."""
        limits = []
        if self.least is not None:
            limits.append(f"ratio >= {self.least:g}")
        if self.most is not None:
            limits.append(f"ratio <= {self.most:g}")
        if self.most_value is not None:
            limits.append(f"{self.most_value:g} {self.unit} at most")
        if self.least_value is not None:
            limits.append(f"{self.least_value:g} {self.unit} at least")
        return ", ".join(limits)


@attrs.frozen
class Number:
    """One line of a report.

    :param label: what it is.
    :param value: how much.
    :param unit: of what.
    """

    label: str
    value: float
    unit: str


@attrs.frozen
class Report:
    """Numbers that nobody claims anything about.

    :param name: the word for it on the command line.
    :param title: what it is about.
    :param measure: gives them.
    """

    name: str
    title: str
    measure: Callable[[], list[Number]]
