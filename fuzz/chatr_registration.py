"""The body of a registration, and the UUID of its path (CH-20, CH-21, CH-23)."""

from __future__ import annotations

import json
from uuid import UUID

from connectd.protocols.chatr.keys import InvalidKey, check_key
from connectd.protocols.chatr.registration import (
    STATUS,
    Registration,
    RegistrationError,
    check_binding,
    encode_body,
    parse_body,
    parse_uuid,
)
from fuzz.script import Script, chunk
from fuzz.watched import require

ANYBODY = UUID(int=7)


def _parse(body: bytes) -> Registration | None:
    try:
        return parse_body(body)
    except RegistrationError as error:
        _is_told_well(error)
        return None


def _is_told_well(error: RegistrationError) -> None:
    require(error.status == STATUS[error.error_type], "CH-20: an error has its status", error)
    require(error.message.isprintable() and error.message, "the message is one line of plain text", error.message)


def _anything(body: bytes) -> None:
    read = _parse(body)
    if read is None:
        return
    content = json.loads(body)
    require(isinstance(content["key"], str) and read.key, "a key was there", content)
    named = content.get("clientId")
    require((read.client_id is None) == (named is None), "CH-23: who is named is looked at", content)
    for required in (False, True):
        try:
            check_binding(read, ANYBODY, required=required)
        except RegistrationError as error:
            _is_told_well(error)
            bound = read.client_id == ANYBODY
            require(not bound and (required or read.client_id is not None), "CH-23: its own body is taken", read)
        else:
            require(read.client_id == ANYBODY or not required, "CH-23: only its own", read)
            require(read.client_id in (None, ANYBODY), "CH-23: nobody else's", read)
    try:
        check_key(read.key)
    except InvalidKey as error:
        require(str(error).isprintable(), "the message is one line of plain text", str(error))


def one_input(data: bytes) -> None:
    """Take one of the fuzzer's inputs."""
    script = Script(data)
    code = script.byte()
    if code % 4 == 0:
        uuid = UUID(bytes=script.take(16).ljust(16, b"\0")) if code & 4 else None
        key = script.rest() or b"key"
        read = _parse(encode_body(key, uuid))
        require(read == Registration(key, uuid), "we read what we write", read)
    elif code % 4 == 1:
        text = script.rest().decode("utf-8", "replace")
        try:
            found = parse_uuid(text)
        except RegistrationError as error:
            _is_told_well(error)
        else:
            require(str(found) == text.lower(), "a UUID has one form", text)
    else:
        _anything(script.rest())


SEEDS = (
    b"\2" + encode_body(b"key"),
    b"\2" + encode_body(b"key", ANYBODY),
    b'\2 {"key":\t"AA\\/=" ,"clientId":null}\r\n',
    b'\2{"key":"AAAA","clientId":"00000000-0000-0000-0000-000000000007","more":[1,2.5e300,{"a":[]}]}',
    b'\2{"key":888888888881}',
    b'\2{"key":"AAAA","key":"BBBB"}',
    b"\2" + b"[" * 300,
    b"\1" + str(ANYBODY).encode(),
    b"\1{00000000000000000000000000000007}",
    b"\4" + bytes(range(16)) + b"key",
    b"\0" + chunk(bytes(60)),
)
