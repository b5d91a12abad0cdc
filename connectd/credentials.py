"""twisted.cred as listeners use it: what peers prove themselves with, who checks that, and who they are then.

A listener whose protocol knows accounts names the credential interfaces that it makes out of what peers send
(:attr:`connectd.net.listener.Listener.credential_interfaces`), and gets a :class:`~twisted.cred.portal.Portal` with
checkers for them: those of its ``auth`` setting, those that were given in Python, or the directory's
(:mod:`connectd.directory.checkers`). Whatever checks, what comes out is an :class:`Avatar`.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, cast

import attrs
from twisted.cred.checkers import ANONYMOUS, ICredentialsChecker, InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.cred.strcred import ICheckerFactory, findCheckerFactories
from twisted.internet.defer import Deferred, maybeDeferred
from zope.interface import Attribute, Interface, implementer

from connectd.suggestions import did_you_mean

CredentialInterfaces = Sequence[type[Interface]]


class CredentialsError(Exception):
    """Nobody can check the accounts of a listener: one line that says why, without what may be a password."""


class IAvatar(Interface):
    """Whoever has proved who they are."""

    account: str = Attribute("The account's name as it is stored, empty for somebody anonymous.")
    protocols: Collection[str] | None = Attribute("The protocols that the account may use, None for all.")


class IEvenWork(Interface):
    """Credentials whose check is work of their own, so that its absence would tell that there is no such account
    (COM-10). A checker that knows the account asks them to compare, and one that does not has nothing to ask."""

    async def even_out() -> None:
        """Do the work of one check, unless one was done."""


@implementer(IAvatar)
@attrs.frozen
class Avatar:
    """Whoever has proved who they are (:class:`IAvatar`).

    :param account: the account's name as it is stored, empty for somebody anonymous.
    :param protocols: the protocols that the account may use, None for all.
    """

    account: str
    protocols: Collection[str] | None = None


@implementer(IUsernamePassword)
@attrs.frozen(eq=False)
class Password:
    """A name and a password as a peer sent them. Shows neither, for people confuse the two fields.

    :param username: bytes of UTF-8, or what the peer takes for that.
    :param password: its bytes.
    """

    username: bytes = attrs.field(repr=False)
    password: bytes = attrs.field(repr=False)

    def checkPassword(self, password: bytes) -> bool:
        """Compare in constant time (COM-9)."""
        return hmac.compare_digest(self.password, password)


@implementer(IRealm)
class Realm:
    """Makes avatars.

    :param protocols_of: gives the protocols that an account may use; without it, all may use all.
    """

    def __init__(self, protocols_of: Callable[[str], Collection[str] | None] = lambda account: None) -> None:
        self._protocols_of = protocols_of

    def requestAvatar(self, avatarId: Any, mind: object, *interfaces: type[Interface]) -> Any:
        """Make the avatar of an account.

        :param avatarId: what a checker gave: the account's name, or ``ANONYMOUS``.
        :raises NotImplementedError: where somebody wants something else than an :class:`IAvatar`.
        """
        if IAvatar not in interfaces:
            raise NotImplementedError("there are avatars of IAvatar only")
        if avatarId is ANONYMOUS:
            return IAvatar, Avatar(""), _nothing
        name = avatarId.decode("utf-8", "backslashreplace") if isinstance(avatarId, bytes) else str(avatarId)
        return IAvatar, Avatar(name, self._protocols_of(name)), _nothing


def common_interfaces(asked: CredentialInterfaces, checked: CredentialInterfaces) -> list[type[Interface]]:
    """Those of the interfaces that are checked, themselves or as something more general."""
    return [one for one in asked if any(cast("Any", one).isOrExtends(other) for other in checked)]


def _nothing() -> None:
    """A logout: an avatar holds nothing."""


@implementer(ICredentialsChecker)
class AnyOf:
    """Asks several checkers in turn: the first that says yes decides, and all are asked before it is no (COM-10).

    :param interface: what all of them check.
    :param checkers: at least one.
    """

    def __init__(self, interface: type[Interface], checkers: Sequence[ICredentialsChecker]) -> None:
        self.credentialInterfaces = (interface,)
        self._checkers = checkers

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        """Give the first avatar id; fail with UnauthorizedLogin, or with what else went wrong."""
        return Deferred.fromCoroutine(self._ask(credentials))

    async def _ask(self, credentials: Any) -> Any:
        for checker in self._checkers:
            try:
                return await maybeDeferred(cast("Callable[[Any], Any]", checker.requestAvatarId), credentials)
            except UnauthorizedLogin:
                continue
        raise UnauthorizedLogin


def make_portal(
    owner: str, interfaces: CredentialInterfaces, checkers: Iterable[ICredentialsChecker], realm: IRealm
) -> Portal:
    """A portal for credentials of these interfaces.

    :param owner: whose accounts they are, for messages.
    :raises CredentialsError: where one of the checkers checks none of them.
    """
    able: dict[type[Interface], list[ICredentialsChecker]] = {}
    for checker in checkers:
        found = common_interfaces(interfaces, checker.credentialInterfaces)
        if not found:
            raise CredentialsError(_mismatch(owner, type(checker).__name__, interfaces, checker.credentialInterfaces))
        for interface in found:
            able.setdefault(interface, []).append(checker)
    portal = Portal(realm)
    for interface, ones in able.items():
        portal.registerChecker(ones[0] if len(ones) == 1 else AnyOf(interface, ones), interface)
    return portal


def make_checker(owner: str, interfaces: CredentialInterfaces, text: str) -> ICredentialsChecker:
    """The checker that an entry of ``auth`` names, as strcred (``--auth``) writes them: ``file:PATH``.

    :param owner: for whose accounts, for messages.
    :param interfaces: what the owner makes of what peers send.
    :param text: the name of a kind of checker, and behind a colon its argument.
    :raises CredentialsError: where there is no such checker, its argument is wrong, or it checks something else.
    """
    kind, _, argument = text.partition(":")
    factories: dict[str, Any] = {}
    for factory in findCheckerFactories():
        factories.setdefault(factory.authType, factory)
    if kind not in factories:
        hint = did_you_mean(kind, factories)
        raise CredentialsError(f'{owner}: auth: there is no checker "{kind}"; {_fitting(interfaces, factories)}{hint}')
    if kind == "file" and argument and not os.path.isfile(argument):
        raise CredentialsError(f"{owner}: auth: the file {argument} does not exist (write lines of name:password)")
    try:
        checker: Any = factories[kind].generateChecker(argument)
    except Exception as error:
        # Its own text might quote a password.
        raise CredentialsError(
            f'{owner}: auth: the checker "{kind}" does not take its argument; it expects: '
            f"{' '.join(factories[kind].argStringFormat.split())}"
        ) from error
    if not common_interfaces(interfaces, checker.credentialInterfaces):
        raise CredentialsError(
            f"{_mismatch(owner, kind, interfaces, checker.credentialInterfaces)}; {_fitting(interfaces, factories)}"
        )
    if isinstance(checker, InMemoryUsernamePasswordDatabaseDontUse):
        # strcred fills it with text, while peers send bytes.
        checker.users = {_octets(name): _octets(password) for name, password in checker.users.items()}
    made: ICredentialsChecker = checker
    return made


def _octets(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _mismatch(owner: str, checker: str, asked: CredentialInterfaces, checked: CredentialInterfaces) -> str:
    return (
        f'{owner}: auth: the checker "{checker}" checks {_names(checked)}, and what {owner} has of its peers is '
        f"{_names(asked)}"
    )


def _fitting(interfaces: CredentialInterfaces, factories: dict[str, ICheckerFactory]) -> str:
    fitting = [
        kind for kind, factory in factories.items() if common_interfaces(interfaces, factory.credentialInterfaces)
    ]
    return f"what can be used: {', '.join(sorted(fitting)) or 'nothing that is installed'}"


def _names(interfaces: CredentialInterfaces) -> str:
    return ", ".join(interface.__name__ for interface in interfaces) or "nothing"
