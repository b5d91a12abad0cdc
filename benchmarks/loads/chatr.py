"""Chatr clients, whose UUIDs are numbers from 1 and who all have one key; and TLS clients that say nothing."""

from __future__ import annotations

import struct
from uuid import UUID

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from benchmarks.harness.control import Commands
from benchmarks.harness.tls_clients import Dialogue, TLSClients

CONNECTED = b"\x01\x02"
PING_SIZE = 10


def _frame(payload: bytes) -> bytes:
    size = len(payload)
    return (bytes((size,)) if size < 128 else bytes((size & 0x7F | 0x80, size >> 7))) + payload


def _respond(data: bytes) -> bytes:
    """A Pong for every Ping; frames come whole here."""
    answer = b""
    while data:
        frame, data = data[: 1 + data[0]], data[1 + data[0] :]
        if frame[1] == 3:
            answer += b"\x09\x04" + frame[2:]
    return answer


def load(port: int, key: str = "", identities: int = 0) -> Commands:
    """Give the commands.

    :param key: the private key of all clients, PEM; nothing: they only shake hands.
    :param identities: how many UUIDs they have; the signatures are made now, not while anything is measured.
    """
    if not key:
        return _commands(TLSClients(port, Dialogue()))
    private = load_pem_private_key(key.encode(), None)
    assert isinstance(private, RSAPrivateKey)
    greetings = []
    for number in range(1, identities + 1):
        uuid = UUID(int=number).bytes
        signature = private.sign(uuid, padding.PKCS1v15(), hashes.SHA256())
        greetings.append(_frame(b"\0" + struct.pack(">I16si", 1, uuid, len(signature)) + signature))
    dialogue = Dialogue(
        greeting=lambda index: greetings[index % identities],
        expect=len(CONNECTED) + PING_SIZE,
        respond=_respond,
    )
    return _commands(TLSClients(port, dialogue))


def _commands(clients: TLSClients) -> Commands:
    return {
        "exchange": clients.exchange,
        "hold": clients.hold,
        "stay": clients.stay,
        "leave": clients.leave,
    }
