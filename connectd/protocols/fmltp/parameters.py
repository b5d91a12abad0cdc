"""The group that the ``parameters`` setting means (FM-5)."""

from __future__ import annotations

from connectd.protocols.fmltp.exchange import check_group
from connectd.protocols.fmltp.groups import FFDHE2048, NAMED, BadKey, Group, decode_parameters
from connectd.protocols.fmltp.settings import FRESH, GROUPS

MAXIMUM_FILE = 65_536
"""Bytes of a parameters file that are read; the parameters take about 800 of them."""


class ParametersError(ValueError):
    """There is no group to be had: one line that names the file, what is wrong with it, and the way out."""


def load_parameters(setting: str, *, thorough: bool = False) -> Group:
    """The group to begin with.

    :param setting: the name of a group, ``fresh`` (for which ``ffdhe2048`` stands in until it is made), or the path of
        a PEM file.
    :param thorough: look whether the modulus of an unknown group is a safe prime. That takes up to seconds of CPU.
    :raises ParametersError: where the file cannot be used.
    """
    if setting == FRESH:
        return FFDHE2048
    if setting in GROUPS:
        return NAMED[setting]
    try:
        with open(setting, "rb") as file:
            contents = file.read(MAXIMUM_FILE)
    except OSError as error:
        known = f"the groups with a name are {', '.join(GROUPS)}, and {FRESH}"
        raise ParametersError(f"{setting}: cannot be read: {error.strerror} ({known})") from None
    try:
        group = decode_parameters(contents)
        if thorough and not group.is_named:
            check_group(group)
    except BadKey as error:
        way_out = "make parameters with: openssl dhparam -out FILE 2048"
        raise ParametersError(f"{setting}: {error} ({way_out})") from None
    return group
