"""Which addresses an endpoint may have."""

import ipaddress
import socket
from typing import Final
from urllib.parse import urlsplit

from schemas.errors import JobFileError

METADATA_HOSTS: Final = frozenset({"metadata.google.internal", "metadata", "instance-data"})
# outside the link-local range, where most clouds have theirs: Alibaba's, Oracle's, Amazon's by IPv6
METADATA_ADDRESSES: Final = frozenset(map(ipaddress.ip_address, ("100.100.100.200", "192.0.0.192", "fd00:ec2::254")))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def check_url(url: str) -> None:
    """Allow https anywhere public or private, http on the loopback; never link-local or metadata addresses.

    Raises:
        JobFileError: it is something else.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    address = _address(host)
    is_loopback = host == "localhost" or (address is not None and address.is_loopback)
    if not host or parts.username or parts.password:
        raise JobFileError("`endpoint` needs a host and takes no user or password.", hint="Name the key in key_env.")
    if host in METADATA_HOSTS or (address is not None and _is_refused(address)):
        raise JobFileError(f"`endpoint` must not be the machine's metadata service ({host}).")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback):
        raise JobFileError(f"`endpoint` must be https (http only on this machine), got {parts.scheme}://{host}")


def check_host(url: str) -> None:
    """Refuse a name that leads to an address that is not allowed; one that leads nowhere is found when it is asked.

    Raises:
        JobFileError: one of its addresses is link-local or a metadata service's.
    """
    parts = urlsplit(url)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM)
    except OSError:
        return
    for *_, place in found:
        address = _address(str(place[0]).partition("%")[0])
        if address is not None and _is_refused(address):
            raise JobFileError(f"`endpoint` must not be the machine's metadata service ({parts.hostname}).")


def _is_refused(address: Address) -> bool:
    return address.is_link_local or address.is_unspecified or address in METADATA_ADDRESSES


def _address(host: str) -> Address | None:
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
