"""Runs discovery inside a network namespace and prints it: LOCAL_IP TARGET|- BBMD|-."""

import asyncio
import json
import sys
from dataclasses import asdict

from drivers.bacnet_discovery import interface_of, one_by_one


async def main(ip: str, target: str, bbmd: str) -> None:
    targets = [] if target == "-" else [target]
    found = await one_by_one(interface_of(ip), targets, None if bbmd == "-" else bbmd, 1.5)
    print(json.dumps([[asdict(d), [asdict(o) for o in objects]] for d, objects in found]))  # type: ignore[union-attr]


asyncio.run(main(*sys.argv[1:]))
