"""PEM, as FmLTP's peers write it: text before the BEGIN line, line ends of either kind (FM-4, FM-6)."""

from __future__ import annotations

import binascii
import re
from collections.abc import Collection
from typing import Final

MAXIMUM_PEM: Final = 4096
"""Bytes of a PEM block, the text before it included (FM-6)."""

_BEGIN = re.compile(rb"(?:\A|(?<=[\r\n]))-----BEGIN ([A-Z0-9. ]{1,32})-----[ \t]{0,8}(?=[\r\n])")
_LONGEST_BEGIN: Final = 64
"""More bytes than a BEGIN line has."""


class PemError(ValueError):
    """Bytes that are not the PEM block that was asked for.

    :param offset: where that shows, from the start of the bytes.
    """

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.offset = offset


class PemReader:
    """Finds one PEM block in bytes that come in any segmentation; looks at each of them once.

    :param labels: what may stand after BEGIN.
    """

    __slots__ = ("_body", "_labels", "_marker", "_scanned", "label")

    def __init__(self, labels: Collection[bytes]) -> None:
        self._labels = labels
        self._scanned = 0
        self._body = 0
        self._marker = b""
        self.label = b""

    def read(self, data: bytes | bytearray) -> tuple[bytes, int] | None:
        """The block's contents.

        :param data: all that came so far, from the first byte.
        :return: them, and where the block ends: after the dashes of its END line. None until it is whole.
        :raises PemError: for a block with another label, one whose contents are not base64, or more than
            :data:`MAXIMUM_PEM` bytes.
        """
        if not self._body and not self._find_body(data):
            self._check_size(data)
            return None
        dash = data.find(b"-", self._scanned, MAXIMUM_PEM)
        if dash < 0:
            self._scanned = len(data)
            self._check_size(data)
            return None
        self._scanned = dash
        marker = self._marker
        found = bytes(data[dash : min(dash + len(marker), MAXIMUM_PEM)])
        if not marker.startswith(found):
            raise PemError("the PEM block does not end with its END line", dash)
        end = dash + len(marker)
        if len(found) < len(marker):
            self._check_size(data)
            return None
        try:
            text = bytes(data[self._body : dash]).translate(None, b"\r\n \t")
            return binascii.a2b_base64(text, strict_mode=True), end
        except binascii.Error:
            raise PemError("the PEM block is not base64", self._body) from None

    def _find_body(self, data: bytes | bytearray) -> bool:
        """Look for the BEGIN line."""
        begin = _BEGIN.search(data, max(0, self._scanned - _LONGEST_BEGIN), MAXIMUM_PEM)
        if begin is None:
            self._scanned = len(data)
            return False
        self.label = begin[1]
        if self.label not in self._labels:
            raise PemError(f"a PEM block of {self.label.decode('ascii')}", begin.start())
        self._body = self._scanned = begin.end()
        self._marker = b"-----END %b-----" % self.label
        return True

    def _check_size(self, data: bytes | bytearray) -> None:
        """Wait for no more than there may be."""
        if len(data) >= MAXIMUM_PEM:
            raise PemError(f"more than {MAXIMUM_PEM} bytes of PEM", MAXIMUM_PEM)


def encode_pem(label: bytes, contents: bytes) -> bytes:
    """A PEM block with LF line ends, as deployed peers write it."""
    text = binascii.b2a_base64(contents, newline=False)
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (label, b"\n".join(lines), label)
