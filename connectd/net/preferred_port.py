"""Connecting from a local port that may not be to be had."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectBindError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(IStreamClientEndpoint)
class PreferredPort:
    """Connects from a certain local port, or from any where that one is in use: a connection that was closed a moment
    ago keeps its port for a minute.

    :param there: the endpoint that binds the port.
    :param anywhere: the one that does not.
    """

    def __init__(self, there: IStreamClientEndpoint, anywhere: IStreamClientEndpoint) -> None:
        self._there = there
        self._anywhere = anywhere

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; cancelling it gives up."""

        def not_there(failure: Failure) -> Deferred[IProtocol]:
            failure.trap(ConnectBindError)
            return self._anywhere.connect(protocolFactory)

        return self._there.connect(protocolFactory).addErrback(not_there)
