"""A certificate file that may be renewed while it is in use.

What a listener makes of the file (a TLS context, QUIC's identity) serves new connections; those that stand go on with
what they began with.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from connectd.net.certificates import Certificate, CertificateError, read_certificate
from connectd.workers.threads import run_in_thread

log = Logger()

T = TypeVar("T")

LOOK_INTERVAL: Final = 2.0
"""Seconds between two looks whether there is a new file."""

SOON: Final = datetime.timedelta(days=7)
"""How long before its end a certificate is warned about."""

Identity = tuple[int, int, int, int, int]


class CertificateFile(Generic[T]):
    """A certificate file, and what was made of it last.

    While it is watched, it is looked at now and then. A new file that cannot be used is told in one line, and the
    former goes on.

    :param owner: whose certificate it is, for messages: ``alloy``.
    :param path: the file.
    :param reactor: the reactor.
    :param make: makes of a certificate what connections are made with; it works in a thread when the file is renewed.
        It fails with CertificateError, which need not name the file, where the certificate is unfit for that.
    :param read: reads the file; fails with CertificateError where it is unfit.
    :raises CertificateError: where the file cannot be used, its text for the one who starts the daemon.
    """

    def __init__(
        self,
        owner: str,
        path: str,
        reactor: Any,
        make: Callable[[Certificate], T],
        read: Callable[[str], Certificate] = read_certificate,
    ) -> None:
        self.path = os.path.abspath(path)
        self._owner = owner
        self._reactor = reactor
        self._make = make
        self._read = read
        self._seen = _identity(self.path)
        try:
            self.certificate, self.current = self._prepare()
        except CertificateError as error:
            raise CertificateError(f"{owner}: certificate: {error}") from None
        self._reading: Deferred[Any] | None = None
        self._looking = LoopingCall(self.look)
        self._looking.clock = reactor

    def start(self) -> None:
        """Begin to look for new files."""
        self._warn()
        if not self._looking.running:
            running = self._looking.start(LOOK_INTERVAL, now=False)
            running.addErrback(lambda failure: log.failure("nobody looks for a new certificate any more", failure))

    def stop(self) -> None:
        """Look no more."""
        if self._looking.running:
            self._looking.stop()
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()

    def look(self) -> Deferred[Any] | None:
        """Look whether the file is another one; it is read in a thread then."""
        identity = _identity(self.path)
        if identity == self._seen or self._reading is not None:
            return None
        self._seen = identity
        self._reading = reading = run_in_thread(self._reactor, self._prepare)
        return reading.addCallbacks(self._take, self._keep).addBoth(self._looked)

    def _prepare(self) -> tuple[Certificate, T]:
        certificate = self._read(self.path)
        try:
            return certificate, self._make(certificate)
        except CertificateError as error:
            raise CertificateError(f"{self.path}: {error}") from None

    def _take(self, prepared: tuple[Certificate, T]) -> None:
        self.certificate, self.current = prepared
        log.info(
            "{owner}: the new certificate in {path} serves from now on, valid until {until:%Y-%m-%d}",
            owner=self._owner,
            path=self.path,
            until=self.certificate.expires,
        )
        self._warn()

    def _keep(self, failure: Failure) -> None:
        if self._reading is None:
            return  # stopped
        if failure.check(CertificateError) is None:
            log.failure("{owner}: the new certificate could not be read", failure, owner=self._owner)
            return
        log.error(
            "{owner}: the new certificate is not used, the former goes on: {problem}",
            owner=self._owner,
            problem=failure.getErrorMessage(),
        )

    def _looked(self, result: Any) -> Any:
        self._reading = None
        return result

    def _warn(self) -> None:
        left = self.certificate.expires - datetime.datetime.now(datetime.UTC)
        if left < SOON:
            log.warn(
                "{owner}: the certificate in {path} {how} on {until:%Y-%m-%d %H:%M} UTC: renew it",
                owner=self._owner,
                path=self.path,
                how="ended" if left < datetime.timedelta(0) else "ends",
                until=self.certificate.expires,
            )


def _identity(path: str) -> Identity | None:
    """What tells one file from another at the same path, or one that may be read from one that might not."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size
