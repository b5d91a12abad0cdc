"""Who the peers of a listener are, and whether they may stay: proofs, account policy, bans (COM-4, COM-10, COM-11)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import attrs
from twisted.cred.error import LoginFailed, UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Interface

from connectd.admission.guard import WRONG_PROOF, guard
from connectd.credentials import (
    Avatar,
    CredentialsError,
    IAvatar,
    IEvenWork,
    Realm,
    common_interfaces,
    make_checker,
    make_portal,
)
from connectd.directory.checkers import DirectoryChecker
from connectd.directory.errors import DirectoryError
from connectd.directory.names import lookup_key
from connectd.net.connection import Refused
from connectd.sansio import Outcome

if TYPE_CHECKING:
    from collections.abc import Collection

    from twisted.internet.interfaces import IReactorTime

    from connectd.admission import ProofLedger
    from connectd.directory.service import DirectoryService
    from connectd.net.listener import Context

log = Logger()

NO_ACCOUNTS: Final = "Accounts cannot be looked up at the moment"
"""What peers are told while the directory cannot be trusted."""


class WrongProof(Refused, UnauthorizedLogin):
    """An unknown account or a wrong proof: always the same text (COM-10)."""

    def __init__(self) -> None:
        super().__init__(WRONG_PROOF)


@attrs.frozen
class Objection:
    """Why somebody may not come in or not stay.

    :param outcome: ``BANNED`` or ``REFUSED``.
    :param reason: for the peer and the operator, in one line.
    :param ban: what a ban states as its reason, for a protocol that has words of its own around that.
    """

    outcome: Outcome
    reason: str
    ban: str = ""


class Objected(Refused):
    """The proof is right, and the account may not be used.

    :param objection: why.
    """

    def __init__(self, objection: Objection) -> None:
        super().__init__(objection.reason, objection.outcome)
        self.objection = objection


class Authenticator:
    """Finds out who the peers of one listener are.

    :param protocol: the listener's; an account may be kept from using it.
    :param portal: has checkers for its credentials.
    :param ledger: of all failed proofs of the daemon (COM-11).
    :param clock: the reactor.
    :param directory: whose bans hold; None where there is none.
    :param own_accounts: the accounts are the directory's own, so that they can be disabled or removed there.
    """

    def __init__(
        self,
        protocol: str,
        portal: Portal,
        *,
        ledger: ProofLedger,
        clock: IReactorTime,
        directory: DirectoryService | None = None,
        own_accounts: bool = False,
    ) -> None:
        self.protocol = protocol
        self.portal = portal
        self._ledger = ledger
        self._clock = clock
        self._directory = directory
        self._own_accounts = own_accounts

    def login(self, host: str, credentials: Any, account: str | bytes | None = None) -> Deferred[Avatar]:
        """Verify a proof under the ledger's rules, then ask whether the account may be used (COM-4).

        Cancelling cancels what is under way.

        :param host: the peer's address (COM-5), ``""`` for a Unix socket. It has to be validated, as TCP's are.
        :param credentials: provides one of the portal's credential interfaces.
        :param account: whom the proof is for, as the peer named it; the credentials' ``username`` unless given.
        :return: fails with :class:`WrongProof`, with :class:`Objected` where the proof is right and the account may
            not be used, or with another :class:`~connectd.net.connection.Refused` where nobody can say.
        """
        if account is None:
            account = getattr(credentials, "username", "")
        # Whatever spelling of one name a peer tries, it fails for one account.
        counted = lookup_key(account) or repr(account)
        # Callbacks and no coroutine: most checkers answer at once, and it would cost more than they do.
        login: Any = guard(self._ledger, host, counted, lambda: self._verify(credentials), clock=self._clock)
        return cast("Deferred[Avatar]", login.addCallback(self._admit).addErrback(self._refuse))

    def _verify(self, credentials: Any) -> Deferred[Any]:
        login: Deferred[Any] = self.portal.login(credentials, None, IAvatar)
        return login.addErrback(_even_out, credentials) if IEvenWork.providedBy(credentials) else login

    def _admit(self, login: Any) -> Avatar:
        """The proof is right."""
        avatar: Avatar = login[1]
        objection = self.objection(avatar.account)
        if objection is not None:
            raise Objected(objection)
        return avatar

    def _refuse(self, failure: Failure) -> Failure:
        if failure.check(UnauthorizedLogin):
            raise WrongProof from None
        if failure.check(LoginFailed):
            raise Refused("This way to log in is not open here") from None
        if failure.check(DirectoryError):
            reason = failure.getErrorMessage()
            log.error("{protocol}: a login was refused unseen: {reason}", protocol=self.protocol, reason=reason)
            raise Refused(NO_ACCOUNTS) from failure.value
        return failure

    def objection(self, account: str) -> Objection | None:
        """Why an account may not be used now, or None.

        :param account: its name; the empty one, of somebody anonymous, is nobody's.
        :raises connectd.directory.errors.DirectoryError: where nobody can say.
        """
        directory = self._directory
        if directory is None or not account:
            return None
        reason = directory.match_account(account)
        if reason is not None:
            return Objection(Outcome.BANNED, f"This account is banned: {reason}", reason)
        if not self._own_accounts:
            return None
        found = directory.find_account(account)
        if found is None:
            return Objection(Outcome.REFUSED, "This account was removed")
        if found.disabled:
            return Objection(Outcome.REFUSED, "This account is disabled")
        if not found.allows(self.protocol):
            return Objection(Outcome.REFUSED, f"This account may not be used for {self.protocol}")
        return None


def _even_out(failure: Failure, credentials: Any) -> Deferred[Failure]:
    """A proof is wrong: do what it would have cost to compare it, if that was not done (COM-10)."""
    failure.trap(UnauthorizedLogin)
    evened: Deferred[None] = Deferred.fromCoroutine(credentials.even_out())
    return evened.addCallback(lambda ignored: failure)


def make_authenticator(
    context: Context, protocol: str, interfaces: Sequence[type[Interface]], auth: Sequence[str]
) -> Authenticator:
    """The authenticator of a listener: with the checkers that ``auth`` names, else with those that the context was
    given, else with the directory's.

    :param protocol: the listener's.
    :param interfaces: the credential interfaces of what it makes out of what peers send.
    :param auth: its setting of that name.
    :raises connectd.credentials.CredentialsError: where nobody can check these.
    """
    directory = context.directory
    own_accounts = False
    realm = Realm()
    if auth:
        checkers = [make_checker(protocol, interfaces, text) for text in auth]
    elif context.checkers:
        # They are for all listeners: each takes those that it has a use for, and complains where there are none.
        able = [one for one in context.checkers if common_interfaces(interfaces, one.credentialInterfaces)]
        checkers = able or list(context.checkers)
    elif directory is not None:
        checkers = [DirectoryChecker(directory)]
        realm, own_accounts = Realm(_protocols_of(directory)), True
    else:
        raise CredentialsError(
            f'{protocol}: nobody knows its accounts (give it a directory, or checkers with auth = ["file:PATH"])'
        )
    return Authenticator(
        protocol,
        make_portal(protocol, interfaces, checkers, realm),
        ledger=context.ledger,
        clock=context.reactor,
        directory=directory,
        own_accounts=own_accounts,
    )


def _protocols_of(directory: DirectoryService) -> Any:
    def protocols_of(name: str) -> Collection[str] | None:
        account = directory.find_account(name) if name else None
        return None if account is None else account.protocols

    return protocols_of
