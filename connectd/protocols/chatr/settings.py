"""Every key of a Chatr listener and of a Chatr client."""

from __future__ import annotations

import attrs

from connectd.settings import ListenerSettings, at_least, between, key


@attrs.frozen(kw_only=True)
class ChatrSettings(ListenerSettings):
    """What a Chatr listener can be told."""

    listen: str = key(
        "tcp:1230:interface=127.0.0.1",
        "Where to accept TLS connections: tcp:PORT[:interface=ADDRESS], unix:PATH or systemd:name=NAME.",
    )
    udp: str = key(
        "udp:1230:interface=127.0.0.1",
        "Where to tell clients their address over UDP (CH-32): udp:PORT[:interface=ADDRESS], on the port number of "
        "listen. Empty: nowhere.",
    )
    rest: str = key(
        "tcp:8080:interface=127.0.0.1",
        "Where clients register their keys (CH-20): plain HTTP on a loopback address or a Unix socket, HTTPS with the "
        "listener's certificate on any other. Empty: nowhere.",
    )
    certificate: str = key(
        "state/chatr.pem",
        "The certificate chain and its private key, PEM in one file. A new file at this path is used for new "
        "connections within seconds (CH-10).",
        path=True,
    )
    rest_certificate: str = key(
        "",
        "Another certificate chain and key for rest, which is HTTPS then on whatever address (CH-10).",
        path=True,
        example='"state/registration.pem"',
    )
    connect_timeout: float = key(
        10.0,
        "The time from the end of the TLS handshake to a whole Connect packet (CH-9); handshake_timeout covers "
        "everything from accept to the accepted session.",
        unit="seconds",
        check=between(0.1, 3600),
    )
    registration_rate: float = key(
        10.0,
        "How many registrations and replacements of a key one source may ask for (CH-20); 0 = no limit.",
        unit="per minute",
        check=at_least(0),
    )
    require_bound_registration: bool = key(
        False,
        "Refuse registrations whose signed body does not name its UUID in the member clientId (CH-23). Deployed "
        "clients do not write it.",
    )


@attrs.frozen(kw_only=True)
class ChatrClientSettings:
    """What a Chatr client can be told; also the options of a ``chatr://`` URL's query."""

    identity: str = key(
        "", "The file with this client's UUID and private key; one is made where there is none.", path=True
    )
    certificate: str = key(
        "",
        "A PEM file with the server's certificate, or several: one of them exactly is accepted, whatever name and "
        "dates it has (CH-10). Without it the host name is verified.",
        path=True,
    )
    authorities: str = key(
        "",
        "A PEM file of certificate authorities to verify the host name with, instead of the system's.",
        path=True,
    )
    server_name: str = key("", "The name to verify instead of the URL's host.")
    peer_port: int = key(
        1231,
        "The UDP port on which both sides of a connection punch, and the local port of the connection to the server "
        "(CH-11, CH-41); 0 = whatever port is free.",
        check=between(0, 65535),
    )
    handshake_timeout: float = key(
        30.0, "The time from connecting to Connected.", unit="seconds", check=between(0.1, 3600)
    )
    silence_timeout: float = key(
        30.0,
        "A server from which nothing came for so long is given up; it sends a Ping every 5 seconds (CH-5).",
        unit="seconds",
        check=between(1, 3600),
    )
    request_timeout: float = key(
        35.0,
        "How long to wait for an answer to a request; the server denies it after 30 seconds (CH-7).",
        unit="seconds",
        check=between(0.1, 3600),
    )
