"""Host names, origins and addresses, in the one form in which they are compared. No I/O.

Browsers send host names in lower case, internationalised ones in ASCII, IPv6 addresses
compressed, and leave out a scheme's default port (RFC 6454, section 6.2; the URL Standard,
https://url.spec.whatwg.org/#host-parsing). A setting in any other spelling would never match.
Every function raises ValueError, whose text says what is wrong, for what cannot be such a value.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import TypeVar

Parsed = TypeVar("Parsed")

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_AUTHORITY = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{1,5}))?")
# What browsers take for an IPv4 address: the last label is a number.
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?")
_PATH = re.compile(r"(?:/[!\"$-z|~]*)?")


def host_name(text: str) -> str:
    """A host as a browser writes it: ``EXAMPLE.org`` is ``example.org``, ``[::0]`` is ``[::]``."""
    if text.startswith("[") and text.endswith("]"):
        return f"[{_ipv6(text[1:-1])}]"
    name = text.lower()
    if not name.isascii() or "xn--" in name:
        name = _to_ascii(name)
    if not _NAME.fullmatch(name):
        raise ValueError("does not name a host")
    if _NUMERIC.fullmatch(name):
        return str(_parsed(ipaddress.IPv4Address, name, "is not an IPv4 address"))
    return name


def allowed_host(text: str) -> str:
    """A word of ALLOWED_HOSTS: a host, ``.example.org`` for it and all below it, ``*`` for all."""
    if text == "*":
        return text
    if _is_ipv6(text):
        return f"[{_ipv6(text)}]"
    if "/" in text or ":" in text.rpartition("]")[2]:
        raise ValueError("is more than the name of a host")
    dot = "." if text.startswith(".") else ""
    # Django and the gateway ignore the dot that may end a host's name.
    return dot + host_name(text.removeprefix(".")).removesuffix(".")


def origin(text: str) -> str:
    """An http or https origin as browsers send it; a slash at its end is dropped."""
    scheme, rest = _split_scheme(text, ("http", "https"))
    host, port = _split_authority(rest.removesuffix("/"))
    return f"{scheme}://{host_name(host)}{_port(scheme, port)}"


def bridge_address(text: str) -> str:
    """A ws or wss URL, whose host may be the placeholder ``{host}``."""
    scheme, rest = _split_scheme(text, ("ws", "wss"))
    authority, slash, path = rest.partition("/")
    host, port = _split_authority(authority)
    if not _PATH.fullmatch(slash + path):
        raise ValueError("has a path that a WebSocket URL cannot have")
    host = host if host == "{host}" else host_name(host)
    return f"{scheme}://{host}{_port(scheme, port)}{slash}{path}"


def ip_address(text: str) -> str:
    """An IP address as sockets show it."""
    bare = text.removeprefix("[").removesuffix("]")
    address = _parsed(ipaddress.ip_address, bare, "is not an IP address")
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def ip_network(text: str) -> str:
    """An IP address or a network such as ``10.0.0.0/8``."""
    if "/" not in text:
        return ip_address(text)
    return str(_parsed(ipaddress.ip_network, text, "is not a network; its host bits must be zero"))


def is_loopback(host: str) -> bool:
    """Whether ``host``, a name or an IP address, is reached only from the machine itself."""
    bare = host.removeprefix("[").removesuffix("]")
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return bare == "localhost"


def _split_scheme(text: str, schemes: tuple[str, ...]) -> tuple[str, str]:
    scheme, found, rest = text.partition("://")
    if not found or scheme.lower() not in schemes:
        raise ValueError(f"does not start with {' or '.join(f'{each}://' for each in schemes)}")
    return scheme.lower(), rest


def _split_authority(text: str) -> tuple[str, int | None]:
    match = _AUTHORITY.fullmatch(text)
    if not match:
        raise ValueError("does not name a host and port")
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 1 <= port <= 65_535:
        raise ValueError(f"has port {port}, and accepted is 1 to 65535")
    return match["host"], port


def _port(scheme: str, port: int | None) -> str:
    return "" if port in (None, DEFAULT_PORTS[scheme]) else f":{port}"


def _is_ipv6(text: str) -> bool:
    try:
        return bool(_ipv6(text))
    except ValueError:
        return False


def _ipv6(text: str) -> str:
    address = _parsed(ipaddress.IPv6Address, text, "is not an IPv6 address")
    if address.scope_id:
        raise ValueError("has a zone, which browsers do not send")
    if mapped := address.ipv4_mapped:
        # Later Pythons write the last four bytes in decimals, browsers never do.
        return f"::ffff:{int(mapped) >> 16:x}:{int(mapped) & 0xFFFF:x}"
    return address.compressed


def _to_ascii(name: str) -> str:
    """By IDNA 2008 and UTS 46, non-transitional, as browsers do: ``ß`` is not ``ss``."""
    import idna

    try:
        return idna.encode(name, uts46=True).decode()
    except idna.IDNAError as error:
        raise ValueError(f"is not a valid internationalised host name: {error}") from None


def _parsed(parse: Callable[[str], Parsed], text: str, problem: str) -> Parsed:
    try:
        return parse(text)
    except ValueError:
        raise ValueError(problem) from None
