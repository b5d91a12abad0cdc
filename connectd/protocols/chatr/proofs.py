"""A Connect's signature as twisted.cred credentials (CH-2)."""

from __future__ import annotations

from uuid import UUID

from twisted.internet.defer import Deferred
from zope.interface import implementer

from connectd.directory.checkers import IKeyProof
from connectd.protocols.chatr.keys import verify_uuid
from connectd.workers.threads import BatchedThread


@implementer(IKeyProof)
class SignedUUID:
    """A UUID, and its signature by a key that is still to be found.

    :param uuid: who it is.
    :param signature: of its 16 bytes.
    :param thread: where keys are asked: what OpenSSL computes there does not hold the reactor up.
    :ivar key: the key that has said yes, DER SubjectPublicKeyInfo.
    """

    def __init__(self, uuid: UUID, signature: bytes, thread: BatchedThread) -> None:
        self.uuid = uuid
        self.key: bytes | None = None
        self._signature = signature
        self._thread = thread

    def checkKey(self, key: bytes | None) -> Deferred[bool]:
        """Whether it is signed with the private key of this one; the same work whatever the answer (COM-10)."""
        verified = self._thread.run(verify_uuid, key, self._signature, self.uuid)

        def note(right: bool) -> bool:
            if right:
                self.key = key
            return right

        return verified.addCallback(note)
