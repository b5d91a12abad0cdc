"""Starbound's packets and Variants in every generation: any bytes, whole and in pieces, and back again."""

from __future__ import annotations

import attrs

from connectd.protocols.starbound.encoding import Malformed
from connectd.protocols.starbound.fields import WORLD_CHUNKS, Source
from connectd.protocols.starbound.generations import GENERATIONS
from connectd.protocols.starbound.packets import ClientConnect, PacketReader, encode_payload
from connectd.protocols.starbound.variant import MAXIMUM_NODES, VariantScanner, decode_variant, encode_variant
from fuzz.script import Script, cut
from fuzz.starbound_words import NAMES, words
from fuzz.watched import require

KINDS = [
    (generation, kind)
    for generation in (GENERATIONS[name] for name in NAMES)
    for kind in sorted(generation.layouts, key=lambda kind: kind.__name__)
]


def _packet(script: Script) -> None:
    generation, kind = KINDS[script.byte() % len(KINDS)]
    layout = generation.layouts[kind]
    sizes, data = script.take(2), script.rest()
    try:
        packets = generation.decode(kind, data)
    except Malformed as error:
        require(0 <= error.offset <= len(data), "COM-3: the offset lies in what came", error.offset)
        packets = []
    first = encode_payload(packets[0], layout) if packets else b""
    if packets:
        again = generation.decode_one(kind, first)
        require(encode_payload(again, layout) == first, "what is written is read", packets[0])
    ship: list[bytes] = []
    streamed = PacketReader(kind, layout, Source(len(data), keep=False, sink=ship.append))
    found = None
    pieces = cut(data, sizes)
    try:
        for index, piece in enumerate(pieces):
            found = streamed.feed(piece, complete=index == len(pieces) - 1)
            if found is not None:
                break
    except Malformed:
        require(not packets or kind is ClientConnect, "what is whole is whole in pieces", packets)
    if found is not None and packets:
        whole = packets[0]
        if isinstance(whole, ClientConnect):
            assert isinstance(found, ClientConnect)
            if generation.server_first:
                require(b"".join(ship) == whole.shipworld, "SB-8: the shipworld is handed out as it is")
            else:
                chunks = WORLD_CHUNKS.encode(whole.world_chunks)
                same = len(b"".join(ship)) >= len(chunks)
                require(same, "SB-24: the world chunks are handed out as they came")
            whole = attrs.evolve(whole, shipworld=b"", world_chunks=())
        require(encode_payload(found, layout) == encode_payload(whole, layout), "segmentation changes nothing", found)


def _variant(script: Script) -> None:
    sizes, data = script.take(2), script.rest()
    scanner = VariantScanner()
    there = 0
    end = None
    try:
        for piece in cut(data, sizes):
            there += len(piece)
            if scanner.scan(data[:there], len(data)):
                end = scanner.offset
                break
    except Malformed as error:
        require(0 <= error.offset <= len(data), "COM-3: the offset lies in what came", error.offset)
    require(scanner.nodes <= MAXIMUM_NODES + 1, "SB-11: so many values and no more", scanner.nodes)
    try:
        value = decode_variant(data if end is None else data[:end])
    except Malformed:
        require(end is None, "SB-11: what is whole can be read", end)
    else:
        require(end is not None, "SB-11: what can be read is whole", data)
        encoded = encode_variant(value)
        require(encode_variant(decode_variant(encoded)) == encoded, "what is written is read", value)


def one_input(data: bytes) -> None:
    """Take one of the fuzzer's inputs."""
    script = Script(data)
    if script.byte() % 3:
        _packet(script)
    else:
        _variant(script)


def _payload(word: bytes) -> bytes:
    return word[3 if word[1] & 0x80 else 2 :]


SEEDS = (
    b"\0\1\2" + encode_variant({"a": [1, -3, 1.5, None, True, "text"], "b": {"c": []}}),
    b"\0\0\0" + b"\6\1" * 66,
    *(
        bytes((1, index, 3, 5)) + _payload(word)
        for index, (generation, kind) in enumerate(KINDS)
        for from_client in (True, False)
        for word in words(generation, from_client)[0:18:2]
        if word[0] == generation.number(kind)
    ),
)
