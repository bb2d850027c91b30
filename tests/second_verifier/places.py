"""Addresses that the kernel programs deny to the mediator (format/rows.md, "Addresses of the mediator")."""

from __future__ import annotations

import ipaddress
from typing import Any

_PRIVATE_4 = ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16")
_SPECIAL_4 = (
    "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "224.0.0.0/4",
    "240.0.0.0/4",
)
_PLATFORM_4 = (
    "169.254.169.254", "169.254.170.2", "169.254.170.23", "168.63.129.16", "192.0.0.192", "100.100.100.200",
    "169.254.42.42", "169.254.0.23",
)
_PLATFORM_6 = (
    "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:a9fe:a9fe::1", "fd00:42::42", "fe80::a9fe:a9fe",
)
_CLASSES_4 = [
    (name, [ipaddress.IPv4Network(text) for text in texts])
    for name, texts in (("platform", _PLATFORM_4), ("special", _SPECIAL_4), ("private", _PRIVATE_4))
]
_PLATFORM_ADDRESSES_6 = [ipaddress.IPv6Address(text) for text in _PLATFORM_6]
_PRIVATE_6 = ipaddress.IPv6Network("fc00::/7")
_GLOBAL_6 = ipaddress.IPv6Network("2000::/3")
_PROTOCOLS_6 = ipaddress.IPv6Network("2001::/23")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/32")
_6TO4 = ipaddress.IPv6Network("2002::/16")
_ORDER = ("platform", "special", "private")


def _plain(address: Any) -> Any:
    """Return the IPv4 address in a mapped address, and any other address unchanged."""
    return getattr(address, "ipv4_mapped", None) or address


def is_ipv6(address: Any) -> bool:
    """Whether an address is an IPv6 address that is not a mapped IPv4 address."""
    return bool(_plain(address).version == 6)


def _embedded(number: int) -> list[int]:
    """Return the IPv4 addresses in an IPv6 address."""
    address, found = ipaddress.IPv6Address(number), []
    if address in _NAT64:
        for length in (32, 40, 48, 56, 64, 96):
            # Bits 64 to 71 are left out (RFC 6052, section 2.2).
            bits = number if length == 96 else (number >> 64 << 56) | (number & (1 << 56) - 1)
            found.append(bits >> (0 if length == 96 else 88 - length) & 0xFFFFFFFF)
    if address in _6TO4:
        found.append(number >> 80 & 0xFFFFFFFF)
    if number >> 32 & 0xFDFFFFFF == 0x5EFE:
        found.append(number & 0xFFFFFFFF)
    return [v4 for v4 in found if v4 >> 24]


def _classes_4(address: ipaddress.IPv4Address) -> set[str]:
    return {name for name, networks in _CLASSES_4 if any(address in network for network in networks)}


def _classes(address: Any) -> set[str]:
    if address.version == 4:
        return _classes_4(address)
    number = int(address)
    found = {name for v4 in _embedded(number) for name in _classes_4(ipaddress.IPv4Address(v4))}
    is_private = address in _PRIVATE_6
    is_global = address in _GLOBAL_6 and address not in _PROTOCOLS_6
    is_nat64 = address in _NAT64 and number >> 56 & 0xFF == 0
    if address in _PLATFORM_ADDRESSES_6:
        found.add("platform")
    if is_private:
        found.add("private")
    if not (is_private or is_global or is_nat64):
        found.add("special")
    return found


def _range(text: Any) -> Any:
    if not isinstance(text, str) or not text.partition("/")[2].isdecimal():
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


class Opened:
    """The addresses that a policy opens to the mediator."""

    def __init__(self, rules: dict[str, Any]) -> None:
        ssrf, trusted = rules.get("ssrf"), rules.get("trusted_domains")
        listed = ssrf.get("ip_allowlist") if isinstance(ssrf, dict) else None
        ranges = [_range(text) for text in listed] if isinstance(listed, list) else []
        self.listed = [found for found in ranges if found is not None]
        self.private = isinstance(trusted, list) and any(isinstance(name, str) for name in trusted)

    def allows(self, address: Any, opens_port: bool) -> bool:
        """Whether the kernel programs may allow a connection of the mediator."""
        address = _plain(address)
        classes = _classes(address)
        found = next((name for name in _ORDER if name in classes), "public")
        if found == "platform":
            return False
        if any(address.version == network.version and address in network for network in self.listed):
            return True
        return opens_port and (found == "public" or (found == "private" and self.private))


def intercepts(rules: dict[str, Any]) -> bool:
    """Whether a policy names an authority that intercepts TLS."""
    section = rules.get("tls_interception")
    if not isinstance(section, dict) or section.get("enabled") is not True:
        return False
    return all(isinstance(section.get(name), str) for name in ("ca_cert", "ca_key"))
