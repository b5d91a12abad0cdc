"""twisted.cred as listeners use it."""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Any

from twisted.cred.checkers import ANONYMOUS, AllowAnonymousAccess, ICredentialsChecker
from twisted.cred.credentials import IAnonymous, ICredentials, IUsernameHashedPassword, IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from connectd import credentials as credentials_module
from connectd.account_settings import AccountListenerSettings
from connectd.config import structure
from connectd.credentials import (
    AnyOf,
    Avatar,
    CredentialsError,
    IAvatar,
    Password,
    Realm,
    make_checker,
    make_portal,
)
from connectd.structure import StructureError

PASSWORDS = (IUsernamePassword,)


class IToken(ICredentials):
    """Something that nobody checks."""


@implementer(ICredentialsChecker)
class Checker:
    """Says what it is told to, and counts."""

    def __init__(self, answer: Any, *interfaces: Any) -> None:
        self.answer = answer
        self.credentialInterfaces = interfaces or PASSWORDS
        self.asked = 0

    def requestAvatarId(self, credentials: Any) -> Any:
        self.asked += 1
        return fail(self.answer) if isinstance(self.answer, Exception) else succeed(self.answer)


class PasswordTests(SynchronousTestCase):
    def test_interface(self) -> None:
        verifyObject(IUsernamePassword, Password(b"ann", b"right"))

    def test_check(self) -> None:
        """COM-9: the comparison is the one that takes the same time whatever differs."""
        compared: list[Any] = []

        def compare(one: bytes, other: bytes) -> bool:
            compared.append((one, other))
            return one == other

        self.patch(hmac, "compare_digest", compare)
        self.assertTrue(Password(b"ann", b"right").checkPassword(b"right"))
        self.assertFalse(Password(b"ann", b"right").checkPassword(b"wrong"))
        self.assertEqual(compared, [(b"right", b"right"), (b"right", b"wrong")])

    def test_shows_nothing(self) -> None:
        """COM-9: neither the password, nor the name, for which people mistake it."""
        self.assertEqual(repr(Password(b"ann", b"right")), "Password()")


class RealmTests(SynchronousTestCase):
    def avatar(self, realm: Realm, identifier: Any) -> Any:
        interface, avatar, logout = realm.requestAvatar(identifier, None, IAvatar)
        self.assertIs(interface, IAvatar)
        verifyObject(IAvatar, avatar)
        logout()
        return avatar

    def test_avatars(self) -> None:
        """Checkers give text or bytes, whatever they like; or nobody."""
        realm = Realm()
        verifyObject(IRealm, realm)
        self.assertEqual(self.avatar(realm, "Zoë"), Avatar("Zoë"))
        self.assertEqual(self.avatar(realm, "Zoë".encode()), Avatar("Zoë"))
        self.assertEqual(self.avatar(realm, b"\xff"), Avatar("\\xff"))
        self.assertEqual(self.avatar(realm, ANONYMOUS), Avatar(""))

    def test_protocols(self) -> None:
        realm = Realm({"ann": ("toy",), "bob": None}.get)
        self.assertEqual(self.avatar(realm, "ann"), Avatar("ann", ("toy",)))
        self.assertEqual(self.avatar(realm, "bob"), Avatar("bob", None))

    def test_other_avatars(self) -> None:
        self.assertRaises(NotImplementedError, Realm().requestAvatar, "ann", None, IToken)


class PortalTests(SynchronousTestCase):
    def login(self, *checkers: Checker) -> Any:
        portal = make_portal("toy", PASSWORDS, checkers, Realm())
        return portal.login(Password(b"ann", b"right"), None, IAvatar)

    def test_one(self) -> None:
        _, avatar, _ = self.successResultOf(self.login(Checker("ann")))
        self.assertEqual(avatar, Avatar("ann"))

    def test_several(self) -> None:
        """One that says yes is enough."""
        refusing, letting, last = Checker(UnauthorizedLogin()), Checker("ann"), Checker("other")
        _, avatar, _ = self.successResultOf(self.login(refusing, letting, last))
        self.assertEqual((avatar.account, refusing.asked, last.asked), ("ann", 1, 0))

    def test_none_says_yes(self) -> None:
        """COM-10: all are asked before it is no, whoever of them knows the account."""
        checkers = [Checker(UnauthorizedLogin()) for _ in range(3)]
        self.failureResultOf(self.login(*checkers), UnauthorizedLogin)
        self.assertEqual([checker.asked for checker in checkers], [1, 1, 1])

    def test_one_is_broken(self) -> None:
        """What cannot be told is not passed over: the next one might let in who was locked out of the first."""
        broken, letting = Checker(ZeroDivisionError()), Checker("ann")
        self.failureResultOf(self.login(broken, letting), ZeroDivisionError)
        self.assertEqual(letting.asked, 0)

    def test_interfaces(self) -> None:
        """Each interface has those that check it; what the listener does not make is left out."""
        able, other = Checker("ann", IUsernamePassword, IToken), Checker("bob", IAnonymous)
        portal = make_portal("toy", (IUsernamePassword, IAnonymous), [able, other], Realm())
        self.assertEqual(portal.checkers, {IUsernamePassword: able, IAnonymous: other})

    def test_general_checker(self) -> None:
        """Who checks credentials of any kind checks passwords, too; not the other way round."""
        anything = Checker("ann", ICredentials)
        self.assertEqual(make_portal("toy", PASSWORDS, [anything], Realm()).checkers, {IUsernamePassword: anything})
        self.assertRaises(CredentialsError, make_portal, "toy", (ICredentials,), [Checker("ann")], Realm())

    def test_nothing_in_common(self) -> None:
        """A checker that no login could ever reach is refused at start, in one line that names both sides."""
        error = self.assertRaises(CredentialsError, make_portal, "toy", PASSWORDS, [AllowAnonymousAccess()], Realm())
        self.assertEqual(
            str(error),
            'toy: auth: the checker "AllowAnonymousAccess" checks IAnonymous, and what toy has of its peers is '
            "IUsernamePassword",
        )

    def test_any_of_is_a_checker(self) -> None:
        verifyObject(ICredentialsChecker, AnyOf(IUsernamePassword, [Checker("ann")]))


class CheckerTests(SynchronousTestCase):
    """Checkers by their text, as strcred has them."""

    def check(self, text: str, name: bytes, password: bytes, interfaces: Any = PASSWORDS) -> Any:
        checker = make_checker("toy", interfaces, text)
        answer: Deferred[Any] = checker.requestAvatarId(Password(name, password))
        return answer

    def problem(self, text: str, interfaces: Any = PASSWORDS) -> str:
        error = self.assertRaises(CredentialsError, make_checker, "toy", interfaces, text)
        self.assertEqual(len(str(error).splitlines()), 1)
        return str(error)

    def test_file(self) -> None:
        path = Path(self.mktemp())
        path.write_text("ann:right\nbob:also right\n")
        self.assertEqual(self.successResultOf(self.check(f"file:{path}", b"bob", b"also right")), b"bob")
        self.failureResultOf(self.check(f"file:{path}", b"bob", b"right"), UnauthorizedLogin)

    def test_missing_file(self) -> None:
        """Not only a warning, after which nobody could log in."""
        self.assertEqual(
            self.problem("file:/no/such/file"),
            "toy: auth: the file /no/such/file does not exist (write lines of name:password)",
        )

    def test_memory(self) -> None:
        """Peers send bytes, and strcred's checker has text."""
        text = "memory:ann:right:Zoë:swordfish"
        self.assertEqual(self.successResultOf(self.check(text, b"ann", b"right")), b"ann")
        self.assertEqual(self.successResultOf(self.check(text, "Zoë".encode(), b"swordfish")), "Zoë".encode())
        self.failureResultOf(self.check(text, b"ann", b"wrong"), UnauthorizedLogin)
        self.failureResultOf(self.check(text, b"nobody", b"right"), UnauthorizedLogin)

    def test_unknown(self) -> None:
        problem = self.problem("fiel:x")
        self.assertTrue(problem.startswith('toy: auth: there is no checker "fiel"; what can be used: file, memory, '))
        self.assertTrue(problem.endswith('; did you mean "file"?'))

    def test_nothing_in_common(self) -> None:
        """One line names both sides, and what could be used."""
        self.assertIn(
            'toy: auth: the checker "anonymous" checks IAnonymous, and what toy has of its peers is IUsernamePassword; '
            "what can be used: file, memory, ",
            self.problem("anonymous"),
        )
        self.assertTrue(
            self.problem("memory", (IToken,)).endswith("is IToken; what can be used: nothing that is installed")
        )

    def test_hashed(self) -> None:
        """A challenge's answer can be checked by who keeps passwords as they are."""
        checker = make_checker("toy", (IUsernameHashedPassword,), "memory:ann:right")

        @implementer(IUsernameHashedPassword)
        class Response:
            username = b"ann"

            def checkPassword(self, password: bytes) -> Deferred[bool]:
                return succeed(password == b"right")

        answer: Any = checker.requestAvatarId(Response())
        self.assertEqual(self.successResultOf(answer), b"ann")

    def test_wrong_argument(self) -> None:
        """COM-9: what may be a password is not quoted."""
        problem = self.problem("memory:ann:swordfish:bob")
        self.assertNotIn("swordfish", problem)
        self.assertEqual(
            problem,
            'toy: auth: the checker "memory" does not take its argument; it expects: A colon-separated list '
            "(name:password:...)",
        )
        self.assertIn('"file" does not take its argument', self.problem("file"))

    def test_first_of_a_name(self) -> None:
        """As strcred finds them."""

        class Factory:
            authType = "memory"
            credentialInterfaces = PASSWORDS

            def generateChecker(self, argument: str) -> Checker:
                return Checker(argument)

        class Second(Factory):
            def generateChecker(self, argument: str) -> Checker:
                raise AssertionError("the second one")

        self.patch(credentials_module, "findCheckerFactories", lambda: iter([Factory(), Second()]))
        self.assertEqual(self.successResultOf(self.check("memory:x", b"", b"")), "x")


class SettingsTests(SynchronousTestCase):
    def test_never_shown(self) -> None:
        """COM-9: an argument may be a password."""
        settings = structure(AccountListenerSettings, {"auth": ["memory:ann:swordfish"]})
        self.assertEqual(settings.auth, ("memory:ann:swordfish",))
        self.assertNotIn("swordfish", repr(settings))

    def test_empty(self) -> None:
        for wrong in ([""], [":swordfish"], ["file:x", " "]):
            error = self.assertRaises(StructureError, structure, AccountListenerSettings, {"auth": wrong})
            self.assertEqual(error.problems, ["auth: is not allowed here (the value is secret and not shown)"])
