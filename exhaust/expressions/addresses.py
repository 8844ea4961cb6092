"""IP addresses within networks."""

import functools
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from exhaust.expressions.values import Unknown, Value, kind

_MAPPED = IPv6Network("::ffff:0:0/96")


@functools.lru_cache(maxsize=4096)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An IPv4 address in IPv6's clothes (::ffff:10.0.0.1) is the IPv4 address: it reaches the same host."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


@functools.lru_cache(maxsize=4096)
def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return None
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


def in_cidrs(text: Value, networks: Value) -> Value:
    """Whether an address is in one of the networks; unknown if it is none, or in none of those that can be read."""
    if type(text) is not str or type(networks) not in (list, tuple):
        return Unknown(f"in_cidrs() is not for {kind(text)} and {kind(networks)}")
    address = _address(text)
    if address is None:
        return Unknown(f"{text[:64]!r} is no IP address")
    doubt: Unknown | None = None
    for entry in networks:
        network = _network(entry) if type(entry) is str else None
        if network is None:
            doubt = Unknown(f"{str(entry)[:64]!r} is no network")
        elif address in network:
            return True
    return False if doubt is None else doubt
