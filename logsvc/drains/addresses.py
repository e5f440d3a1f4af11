"""Which addresses a drain may connect to: the public internet, and not the platform that it runs on. Pure."""

from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Network = IPv4Network | IPv6Network

_METADATA: Final = (IPv4Network("168.63.129.16/32"), IPv4Network("192.0.0.0/24"))
"""Azure's public address of its platform, and Oracle's in the block of RFC 6890, which Python 3.11 takes for public.
Metadata services of other clouds are link-local or private."""

_NAT64: Final = IPv6Network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are an IPv4 address."""


class Forbidden(OSError):
    """A drain's name leads to an address that drains may not connect to."""

    def __init__(self) -> None:
        # Not which one: who may not connect there needn't know either how the platform names things.
        super().__init__("its address is not public: drains may not connect to it")


class Addresses:
    """Which addresses are refused."""

    def __init__(self, allow: Collection[Network] = (), refuse: Collection[Network] = ()) -> None:
        """Networks that are allowed though they are not public, and such that are refused whatever else they are."""
        self._allow, self._refuse = tuple(allow), (*_METADATA, *refuse)

    def check(self, address: str) -> None:
        """Raise Forbidden for an IP address that drains may not connect to."""
        try:
            ip = _inner(ip_address(address.partition("%")[0]))
        except ValueError:
            raise Forbidden from None
        refused = any(ip in network for network in self._refuse)
        if refused or not (_is_public(ip) or any(ip in network for network in self._allow)):
            raise Forbidden


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    special = ip.is_multicast or ip.is_reserved or ip.is_unspecified or (ip.version == 6 and ip.is_site_local)
    return ip.is_global and not special


def _inner(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one stands for, where it does: that is where packets go in the end."""
    if isinstance(ip, IPv4Address):
        return ip
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)
