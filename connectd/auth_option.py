"""``--auth`` of ``twistd PROTOCOL``: twisted.cred checkers named on the command line, as strcred has them."""

from __future__ import annotations

from typing import ClassVar

from twisted.cred import strcred
from twisted.python import usage

from connectd.credentials import CredentialsError, make_checker


class AuthOption(strcred.AuthOptionMixin):
    """``--auth``, ``--help-auth`` and ``--help-auth-type``, for an options class of a protocol with accounts.

    It keeps the texts: a checker is made of each once there is a listener to have it.
    """

    protocol: ClassVar[str]
    auth: tuple[str, ...] = ()
    """What was given."""

    def opt_auth(self, description: str) -> None:
        """Who checks accounts instead of the directory: a twisted.cred checker, such as file:PATH. Can be given several
        times; one that knows the account is enough. Everybody on the machine can read a command line: passwords do not
        belong there. [default: the directory]
        """
        try:
            if self.supportedInterfaces is not None:
                make_checker(self.protocol, self.supportedInterfaces, description)
        except CredentialsError as error:
            raise usage.UsageError(str(error)) from error
        self.auth = (*self.auth, description)

    opt_auth.__doc__ = " ".join((opt_auth.__doc__ or "").split())  # --help prints it as it is, line ends and all
