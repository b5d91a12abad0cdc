"""Where the session services may be (AL-13)."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def base_url_problem(url: str) -> str | None:
    """Tell why the services cannot be at a URL, or None.

    Tokens do not travel in the clear: only loopback addresses may be ``http:``.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return f"{url!r} is no URL (write https://HOST)"
    if not url.isascii() or not url.isprintable() or not host or port == 0:
        return f"{url!r} is no URL (write https://HOST)"
    if parts.username is not None or parts.query or parts.fragment:
        return f"{url!r} has more than a host and a path (write https://HOST)"
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)):
        return None
    return f"{url!r} is not encrypted (write https://HOST)"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
