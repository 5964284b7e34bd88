"""Where a request comes from: what a proxy forwards, and what counts as one client. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network


@lru_cache(maxsize=65_536)
def network_of(address: str) -> str:
    """What one customer has: an IPv4 address, or all IPv6 addresses with the same first 64 bits.

    Whoever has an IPv6 address usually has that many (RFC 6177). Text that is not an address
    stands for itself.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(parsed.ipv4_mapped or int(parsed) >> 64)


class TrustedProxies:
    """The proxies whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are believed.

    ``words`` are IP addresses and networks, such as ``10.0.0.0/8``.
    """

    def __init__(self, words: Iterable[str] = ()) -> None:
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(word) for word in words]

    def __contains__(self, address: str) -> bool:
        if not self._networks:
            return False
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        mapped = parsed.ipv4_mapped if parsed.version == 6 else None
        return any((mapped or parsed) in network for network in self._networks)

    def client(self, peer: str, forwarded_for: str) -> str:
        """The client of a request from ``peer``: of the addresses in X-Forwarded-For, which each
        proxy appends to, the last one that is not a trusted proxy."""
        if peer not in self:
            return peer
        addresses = [word for word in map(str.strip, forwarded_for.split(",")) if word]
        clients = (address for address in reversed(addresses) if address not in self)
        return next(clients, peer)
