"""What listeners of protocols with accounts can be told besides (:mod:`connectd.credentials`)."""

from __future__ import annotations

import attrs

from connectd.settings import ListenerSettings, key


def _auth_problem(checkers: tuple[str, ...]) -> str | None:
    empty = any(not checker.partition(":")[0].strip() for checker in checkers)
    return 'an entry names no checker (write "file:PATH", say)' if empty else None


@attrs.frozen(kw_only=True)
class AccountListenerSettings(ListenerSettings):
    """The settings that a protocol with accounts inherits from, instead of
    :class:`connectd.settings.ListenerSettings`."""

    auth: tuple[str, ...] = key(
        (),
        "Who checks names and passwords instead of the directory: twisted.cred checkers, such as file:PATH for a file "
        "with lines of name:password. Of several, one that knows the account is enough. The command "
        '"twistd PROTOCOL --help-auth" lists them.',
        check=_auth_problem,
        example='["file:accounts"]',
        # "memory:ann:swordfish" holds passwords, and so may the arguments of others.
        secret=True,
    )
