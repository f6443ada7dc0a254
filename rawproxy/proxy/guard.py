"""The one seam through which the core knows who may pass: the `guard` of a route target.

    None        everybody may pass: an exchange begins at once, and nothing else is looked at
    a `Guard`   it makes the exchange, which then asks whatever there is to ask, in its own time

The room `access` has the guards. Without that room no route has one. This module never decides
anything. Invariant: each exchange of a guarded route comes from its guard.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import cast

from rawproxy.protocol.http.head import RequestHead
from rawproxy.proxy.admission import ConnectionSlot
from rawproxy.proxy.client_side import ClientSide
from rawproxy.proxy.exchange import Exchange
from rawproxy.proxy.service import Service


class Guard(metaclass=ABCMeta):
    """Who may pass one route. A class for the same reason as `response_handler.ResponseHandler`."""

    __slots__ = ()

    @abstractmethod
    def exchange(
        self, service: Service, client: ClientSide, head: RequestHead, slot: ConnectionSlot
    ) -> Exchange:
        """An exchange that goes on only once its request may pass."""


def exchange_for(
    service: Service, client: ClientSide, head: RequestHead, slot: ConnectionSlot
) -> Exchange:
    """The exchange of a request, not started yet."""
    guard = client.route_target.guard
    if guard is None:
        return Exchange(service, client, head)
    return cast(Guard, guard).exchange(service, client, head, slot)
