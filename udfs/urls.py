"""Which addresses an endpoint may have."""

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from schemas.errors import JobFileError

METADATA_HOSTS: Final = frozenset({"metadata.google.internal", "metadata", "instance-data"})


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
    if host in METADATA_HOSTS or (address is not None and (address.is_link_local or address.is_unspecified)):
        raise JobFileError(f"`endpoint` must not be the machine's metadata service ({host}).")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback):
        raise JobFileError(f"`endpoint` must be https (http only on this machine), got {parts.scheme}://{host}")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
