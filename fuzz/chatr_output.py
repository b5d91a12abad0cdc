"""A second reader of Chatr's packets, which shares no code with the wing."""

from __future__ import annotations

from fuzz.watched import require

_SIZES = {2: (0,), 3: (8,), 4: (8,), 5: (21, 33), 6: (21, 33), 7: (16,), 8: (21, 33)}
"""Bytes of the payload by opcode, where that does not depend on a text."""


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """Whole frames, as (opcode, payload); ours are whole, and every length is written the shortest way."""
    found = []
    offset = 0
    while offset < len(data):
        length = shift = 0
        while True:
            byte = data[offset]
            offset += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 128:
                break
        require(byte or shift == 7, "a length is written the shortest way", data[:offset])
        require(0 < length <= 8192, "CH-9: a frame is within its bounds", length)
        frame = data[offset : offset + length]
        require(len(frame) == length, "what we send is whole", frame)
        offset += length
        found.append((frame[0], frame[1:]))
        _check(frame[0], frame[1:])
    return found


def _check(opcode: int, payload: bytes) -> None:
    if opcode in _SIZES:
        require(len(payload) in _SIZES[opcode], "a packet has its size", opcode, payload)
        if opcode in (5, 6, 8):
            require(payload[16] == (4 if len(payload) == 21 else 6), "an address has its version", payload)
    elif opcode == 1:
        size, start = payload[0], 1
        if size > 127:
            size, start = size & 0x7F | payload[1] << 7, 2
        text = payload[start:]
        require(len(text) == size <= 1024, "CH-9: a text has its length, and 1 KiB at most", payload)
        text.decode("utf-8")
    else:
        require(opcode == 0, "an opcode that there is", opcode)
