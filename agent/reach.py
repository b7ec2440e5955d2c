"""Which addresses a site speaks to, and whether systemd lets it: drop-ins, and what they allow.

Decides nothing about devices. Resolves names where asked to; sends nothing to anybody.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from config.site import Site

UNIT = "skadi.service"
UNIT_ROOTS = tuple(
    Path(p) for p in ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system",
                      "/lib/systemd/system")
)  # fmt: skip
LOOPBACK = ("127.0.0.0/8", "::1/128")
_SERIAL = """\
# Serial lines (Modbus RTU): each is let into the unit's own /dev, for the group that may open it.
# What this costs: `systemd-analyze security skadi.service` says 1.0 in place of 0.9. A gateway
# (modbus-rtu-tcp) needs none of it.
SupplementaryGroups=dialout
"""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Somebody the agent speaks to: a device, the broker, the database."""

    who: str
    host: str


def endpoints(site: Site) -> list[Endpoint]:
    """Everybody the agent has to reach over IP, in the order of the site file."""
    found = [
        Endpoint(d.id, host)
        for d in site.devices
        if d.protocol not in ("push", "plant")
        and (host := d.host or (urlsplit(d.url).hostname or "" if d.url else ""))
    ]
    others = {"mqtt": site.mqtt.url if site.mqtt else None, "history": site.history.url}
    for who, url in others.items():
        if url and (name := urlsplit(url).hostname):
            found.append(Endpoint(who, name))
    return found


def serial_lines(site: Site) -> list[str]:
    """The serial lines the site uses."""
    return sorted({d.serial.path for d in site.devices if d.serial is not None})


def resolved(host: str) -> list[str]:
    """The addresses behind a host. Raises OSError when it has none."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return sorted({str(ipaddress.ip_address(str(f[4][0]).partition("%")[0])) for f in found})


def drop_in(site: Site) -> tuple[str, list[str]]:
    """The systemd drop-in for a site, and what could not be written into it."""
    lines = [
        f"# The addresses that the agent of {site.id} may speak to, one for each device of its site",
        "# file. What is not listed can't be reached: connecting fails with",
        '# "Operation not permitted". Written by skadi init --drop-in; write it again when devices change.',
        "[Service]",
    ]
    left: list[str] = []
    seen: dict[str, list[str]] = {}
    for end in endpoints(site):
        try:
            addresses = resolved(end.host)
        except OSError as error:
            left.append(
                f"{end.who}: {end.host} has no address ({error}); add IPAddressAllow= by hand"
            )
            continue
        for address in addresses:
            if not ipaddress.ip_address(address).is_loopback:
                seen.setdefault(address, []).append(end.who)
    for address, who in sorted(seen.items(), key=lambda item: ipaddress.ip_address(item[0]).packed):
        lines.append(f"# {', '.join(who[:6])}{' …' if len(who) > 6 else ''}")
        lines.append(f"IPAddressAllow={address}")
    if not seen:
        lines.append(
            "# every address of this site is on this host: the unit allows localhost already"
        )
    if paths := serial_lines(site):
        lines += _SERIAL.splitlines()
        lines += [line for p in paths for line in (f"BindPaths={p}", f"DeviceAllow={p} rw")]
    return "\n".join(lines) + "\n", left


def unit_text(roots: Iterable[Path] = UNIT_ROOTS, unit: str = UNIT) -> str | None:
    """The unit with its drop-ins as one text; None where it is not installed or can't be read."""
    listed = tuple(roots)
    try:
        main = next((p for root in listed if (p := root / unit).is_file()), None)
        if main is None:
            return None
        parts = [
            main,
            *(p for root in reversed(listed) for p in sorted((root / f"{unit}.d").glob("*.conf"))),
        ]
        return "\n".join(p.read_text(encoding="utf-8", errors="replace") for p in parts)
    except OSError:
        return None


def settings(text: str, key: str) -> Iterator[str]:
    """The values of a key of a unit's text, an empty one clearing those before it."""
    found: list[str] = []
    for value in re.findall(rf"^{key}=(.*)$", text, re.MULTILINE):
        found = [*found, value.strip()] if value.strip() else []
    return iter(found)


def allowed(text: str) -> list[Network] | None:
    """The networks a unit may speak to; None: it denies nothing."""
    if "any" not in " ".join(settings(text, "IPAddressDeny")).split():
        return None
    found: list[Network] = []
    for word in " ".join(settings(text, "IPAddressAllow")).split():
        match word:
            case "any":
                return None
            case "localhost":
                found += [ipaddress.ip_network(n) for n in LOOPBACK]
            case "link-local":
                found += [ipaddress.ip_network(n) for n in ("169.254.0.0/16", "fe80::/64")]
            case "multicast":
                found += [ipaddress.ip_network(n) for n in ("224.0.0.0/4", "ff00::/8")]
            case _:
                found.append(ipaddress.ip_network(word, strict=False))
    return found


def blocked(addresses: Sequence[str], networks: Sequence[Network]) -> list[str]:
    """The addresses that no network takes in."""
    return [a for a in addresses if not any(ipaddress.ip_address(a) in n for n in networks)]
