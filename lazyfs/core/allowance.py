"""Where a source may be: which addresses, which directories. Pure.

Whoever says what to mount is not always whoever owns the machine. A source must not be a way into what only
the machine can reach: its own services, the files of its disk, or the metadata address that gives out the
credentials of the cloud. So there are classes of addresses, and the operator says which a source may be at.

Public addresses always are. Without a word from the operator so are private ones, those of the machine
itself, and files: that is somebody who mounts on a machine of their own. Link-local ones, and those known to
serve metadata, are only where they are named.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from lazyfs.errors import UsageError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

PUBLIC, PRIVATE, LOOPBACK, LINK_LOCAL = "public", "private", "loopback", "link-local"
CLASSES = (PUBLIC, PRIVATE, LOOPBACK, LINK_LOCAL)
_FILE = "file://"
_CURE = "write it like private, loopback, link-local, public, 10.1.0.0/16 or file:///models/*"


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


_LINK_LOCAL = _networks(
    "169.254.0.0/16", "fe80::/10",
    "fd00:ec2::/32",  # EC2: metadata, time, DNS
    "fd20:ce::254/128",  # Google Cloud
    "100.100.100.200/32",  # Alibaba Cloud
    "168.63.129.16/32",  # Azure
    "192.0.0.192/32",  # Oracle Cloud
)  # fmt: skip
_LOOPBACK = _networks("127.0.0.0/8", "::1/128", "0.0.0.0/8", "::/128")
_PRIVATE = _networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
_NAT64 = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))


def plain(text: str) -> Address:
    """Return the address a text stands for, an IPv4 one out of its IPv6 wrapping: that is where it leads.

    Raises:
        ValueError: when it is not an address.

    """
    found = ip_address(text.partition("%")[0])
    if isinstance(found, IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if any(found in network for network in _NAT64):
            inner = IPv4Address(int(found) & 0xFFFFFFFF)
        elif not int(found) >> 32 and int(found) > 1:  # ::a.b.c.d
            inner = IPv4Address(int(found))
        return inner or found
    return found


def class_of(address: Address) -> str:
    """Return the class an address is of."""
    for name, networks in ((LINK_LOCAL, _LINK_LOCAL), (LOOPBACK, _LOOPBACK), (PRIVATE, _PRIVATE)):
        if any(address in network for network in networks):
            return name
    return PUBLIC


@dataclass(frozen=True, slots=True)
class Allowance:
    """The classes and networks a source may be in, and the directories; None: any directory."""

    classes: frozenset[str] = frozenset({PUBLIC, PRIVATE, LOOPBACK})
    networks: tuple[Network, ...] = ()
    directories: tuple[str, ...] | None = None

    def refused(self, text: str) -> str | None:
        """Return the class of an address that no source may be at; None when one may."""
        address = plain(text)
        found = class_of(address)
        allowed = found in self.classes or any(address in network for network in self.networks)
        return None if allowed else found

    def holds(self, path: str) -> bool:
        """Tell whether a source may be at a path: absolute, without symbolic links in it."""
        if self.directories is None:
            return True
        return any(path == top or path.startswith(f"{top.rstrip('/')}/") for top in self.directories)


def allowance(texts: tuple[str, ...]) -> Allowance:
    """Return what the operator's words allow: nothing but that, and public addresses. No words: the default.

    Raises:
        UsageError: when one of them means nothing.

    """
    if not texts:
        return Allowance()
    classes, networks, directories = {PUBLIC}, [], []
    for text in texts:
        if text in CLASSES:
            classes.add(text)
        elif text.startswith(_FILE):
            directories.append(_directory(text))
        else:
            networks.append(_network(text))
    return Allowance(frozenset(classes), tuple(networks), tuple(directories))


def _directory(text: str) -> str:
    path = text.removeprefix(_FILE).removesuffix("*")
    if not path.startswith("/") or "*" in path or "/../" in f"{path}/":
        raise UsageError(f"{text!r} is not where a source may be", _CURE)
    return path.rstrip("/") or "/"


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        raise UsageError(f"{text!r} is not where a source may be", _CURE) from None
