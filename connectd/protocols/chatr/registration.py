"""What a registration is: the body that a client sends and signs, and what may be wrong with it (CH-20, CH-21, CH-23).

The body is JSON, ``{"key": BASE64, "clientId": UUID}``; the second member is optional. The signature is of the body's
bytes as they are: whoever writes JSON in another way has signed just that.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, Final
from uuid import UUID

import attrs
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from connectd.protocols.chatr.keys import InvalidKey, check_key, is_signed

MAXIMUM_BODY: Final = 16 * 1024
"""Bytes of a request's body (CH-20)."""
MAXIMUM_SIGNATURE_TEXT: Final = 2048
"""Characters of the signature's header: 1,024 bytes take 1,368."""

PATH: Final = "/api/1/clients/"
SIGNATURE_HEADER: Final = "Chatr-PublicKey-Signature"

INVALID_CLIENT_ID: Final = "InvalidClientIdException"
ALREADY_REGISTERED: Final = "ClientAlreadyRegisteredException"
DOES_NOT_EXIST: Final = "ClientDoesNotExistException"
INVALID_PUBLIC_KEY: Final = "InvalidPublicKeyException"
INVALID_SIGNATURE: Final = "InvalidSignatureException"

STATUS: Final = {
    INVALID_CLIENT_ID: 400,
    ALREADY_REGISTERED: 409,
    DOES_NOT_EXIST: 404,
    INVALID_PUBLIC_KEY: 400,
    INVALID_SIGNATURE: 401,
}
"""The HTTP status of each of the protocol's errors (CH-20)."""

OTHER_ERRORS: Final = {
    404: "NotFoundException",
    405: "MethodNotAllowedException",
    413: "RequestTooLargeException",
    429: "TooManyRequestsException",
    500: "InternalException",
}
"""What other statuses are called: the protocol has no names for them."""

_UUID: Final = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


class RegistrationError(Exception):
    """A registration is refused.

    :param error_type: one of the protocol's.
    :param message: one line for the client.
    """

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message

    @property
    def status(self) -> int:
        """The HTTP status that goes with it."""
        return STATUS[self.error_type]


@attrs.frozen
class Registration:
    """What a body says.

    :param key: the key to register, DER SubjectPublicKeyInfo; it has not been looked at.
    :param client_id: whom it is for, where it says so.
    """

    key: bytes
    client_id: UUID | None


def parse_uuid(text: str) -> UUID:
    """A UUID in its usual form, 8-4-4-4-12 hex digits.

    :raises RegistrationError: for anything else.
    """
    if _UUID.fullmatch(text) is None:
        raise RegistrationError(INVALID_CLIENT_ID, "The client's id is not a UUID")
    return UUID(text)


def parse_body(body: bytes) -> Registration:
    """Read a body.

    :raises RegistrationError: where it is not what it should be.
    """
    try:
        # Numbers, which nobody needs and some of which take long to read, stay bytes: no text, so neither key nor id.
        number = str.encode
        content = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=number,
            parse_float=number,
            parse_constant=number,
        )
    except (ValueError, RecursionError):
        raise RegistrationError(INVALID_PUBLIC_KEY, "The body is not JSON with one member key") from None
    if not isinstance(content, dict) or not isinstance(content.get("key"), str):
        raise RegistrationError(INVALID_PUBLIC_KEY, "The body has no member key, or it is not a text")
    key = decode_base64(content["key"])
    if not key:
        raise RegistrationError(INVALID_PUBLIC_KEY, "The member key is not base64")
    client_id = content.get("clientId")
    if client_id is None:
        return Registration(key, None)
    if not isinstance(client_id, str):
        raise RegistrationError(INVALID_CLIENT_ID, "The member clientId is not a text")
    return Registration(key, parse_uuid(client_id))


def encode_body(key: bytes, client_id: UUID | None = None) -> bytes:
    """A body, to be signed as it is.

    :param key: DER SubjectPublicKeyInfo.
    :param client_id: whom it is for: then nobody can register it for another (CH-23).
    """
    content = {"key": base64.b64encode(key).decode("ascii")}
    if client_id is not None:
        content["clientId"] = str(client_id)
    return json.dumps(content).encode("ascii")


def check_binding(registration: Registration, uuid: UUID, *, required: bool) -> None:
    """See to it that a body is not one that was signed for somebody else (CH-23).

    :param required: refuse a body that does not say whom it is for.
    :raises RegistrationError: where it is, or may be.
    """
    if registration.client_id is None:
        if required:
            raise RegistrationError(INVALID_CLIENT_ID, "The body has to name the client's id in the member clientId")
    elif registration.client_id != uuid:
        raise RegistrationError(INVALID_CLIENT_ID, "The body is for another client")


def expect_key(key: bytes) -> RSAPublicKey:
    """Load a key that may be registered (CH-21).

    :raises RegistrationError: where it may not.
    """
    try:
        return check_key(key)
    except InvalidKey as error:
        raise RegistrationError(INVALID_PUBLIC_KEY, f"The key cannot be registered: {error}") from None


def check_signature(key: bytes, signature: bytes, body: bytes) -> bool:
    """Whether a body was signed with a key that may be registered (CH-21). To be called in a thread.

    :raises RegistrationError: where the key may not.
    """
    return is_signed(expect_key(key), signature, body)


def decode_base64(text: str) -> bytes:
    """What a base64 text stands for, padding and all; nothing where it is none."""
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (ValueError, binascii.Error):
        return b""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. Of a name that is there twice, readers differ in which of the two they take."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found
