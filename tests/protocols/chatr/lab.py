"""A small Internet in network namespaces: hosts, and NATs made of nftables. It takes root, iproute2 and nftables.

All of it is in namespaces of its own, named after this process, and goes away with the test; the machine's own network
is never touched.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from itertools import count
from typing import Final

from twisted.trial.unittest import SkipTest, SynchronousTestCase

_labs = itertools.count(1)

BACKBONE: Final = "203.0.113"
SERVER: Final = f"{BACKBONE}.1"
"""The address of the namespace that everything is connected through."""

DROPS_STRAYS: Final = """
table inet filter {
    chain input {
        type filter hook input priority filter; policy accept;
        iifname "outside" ct state established,related accept
        iifname "outside" drop
    }
}
"""
"""A NAT that forgets stray datagrams, as home routers do."""

MASQUERADE: Final = """
table ip nat {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "outside" masquerade
    }
}
"""
"""Linux's plain NAT, which keeps ports where it can."""

RANDOM: Final = MASQUERADE.replace("masquerade", "masquerade random")
"""Linux's NAT with a random port for each destination."""

FULL_CONE: Final = """
table ip nat {
    chain prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        iifname "outside" udp dport 1231 dnat to %s
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "outside" masquerade
    }
}
"""
"""A NAT that lets anybody in on port 1231, to one inside address."""


def _run(*command: str, text: str | None = None) -> None:
    done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


class Lab:
    """Namespaces for one test.

    :param test: with whose end they go.
    :raises SkipTest: where this machine or this user cannot have them.
    """

    def __init__(self, test: SynchronousTestCase) -> None:
        if os.geteuid() != 0:
            raise SkipTest("network namespaces need root")
        for tool, package in (("ip", "iproute2"), ("nft", "nftables")):
            if shutil.which(tool) is None:
                raise SkipTest(f"{tool} is not installed (Debian: apt-get install {package})")
        self._prefix = f"connectd-{os.getpid()}-{next(_labs)}-"
        self._names: list[str] = []
        self._numbers = count(2)
        test.addCleanup(self._remove)
        try:
            self.internet = self._namespace("internet")
            _run("ip", "-n", self.internet, "link", "add", "lan", "type", "bridge")
            # It has no such interface, so these do nothing here: they only show whether the kernel has them.
            _run(*self.inside(self.internet), "nft", "-f", "-", text=RANDOM + DROPS_STRAYS)
        except RuntimeError as error:
            raise SkipTest(f"network namespaces cannot be had here: {error}") from None
        self._address(self.internet, "lan", f"{SERVER}/24")

    def host(self, name: str) -> tuple[str, str]:
        """A host on the Internet: its namespace and its address."""
        namespace, address = self._namespace(name), f"{BACKBONE}.{next(self._numbers)}"
        self._plug(namespace, "outside", self.internet)
        self._address(namespace, "outside", f"{address}/24")
        return namespace, address

    def nat(self, name: str, rules: str, inside: str) -> tuple[str, str]:
        """A NAT: its namespace and its address outside.

        :param rules: for nft.
        :param inside: the first three numbers of its private network; it is .1 there.
        """
        namespace, address = self.host(name)
        _run("ip", "-n", namespace, "link", "add", "lan", "type", "bridge")
        self._address(namespace, "lan", f"{inside}.1/24")
        _run("ip", "netns", "exec", namespace, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        _run("ip", "netns", "exec", namespace, "nft", "-f", "-", text=rules)
        return namespace, address

    def behind(self, name: str, nat: str, address: str) -> str:
        """A host behind a NAT: its namespace."""
        namespace = self._namespace(name)
        self._plug(namespace, "inside", nat)
        self._address(namespace, "inside", f"{address}/24")
        gateway = address.rpartition(".")[0] + ".1"
        _run("ip", "-n", namespace, "route", "add", "default", "via", gateway)
        return namespace

    @staticmethod
    def inside(namespace: str) -> tuple[str, ...]:
        """What to write before a command that is to run in a namespace."""
        return "ip", "netns", "exec", namespace

    def _namespace(self, name: str) -> str:
        namespace = self._prefix + name
        _run("ip", "netns", "add", namespace)
        self._names.append(namespace)
        _run("ip", "-n", namespace, "link", "set", "lo", "up")
        return namespace

    def _plug(self, namespace: str, interface: str, switch: str) -> None:
        """Connect an interface with the bridge of another namespace."""
        port = f"port{next(self._numbers)}"
        link = ("ip", "link", "add", interface, "netns", namespace, "type", "veth")
        _run(*link, "peer", "name", port, "netns", switch)
        _run("ip", "-n", switch, "link", "set", port, "master", "lan", "up")

    @staticmethod
    def _address(namespace: str, interface: str, address: str) -> None:
        _run("ip", "-n", namespace, "address", "add", address, "dev", interface)
        _run("ip", "-n", namespace, "link", "set", interface, "up")

    def _remove(self) -> None:
        for name in reversed(self._names):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
