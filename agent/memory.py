"""What the control state keeps across restarts: modes and budgets, in the journal.

Times are kept on the boot clock with the boot id, so that a stepped wall clock neither opens
a budget early nor locks it. After another boot history is unknown: everything waits.
"""

from dataclasses import replace
from typing import Any

import structlog

from agent.clock import Clock
from agent.journal import Journal
from config.site import Site
from control import modes
from control.modes import Modes
from control.state import ControlState, Spent
from control.types import Mode
from drivers.gate import JournalError

log = structlog.get_logger("skadi")


class Memory:
    """Reads and writes the parts of the control state that must survive."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock

    def recall(self, site: Site) -> ControlState:
        """The control state to start with. A journal that can't be read means advisory."""
        stored = self._stored_modes()
        state = ControlState(modes=modes.initial(site, stored), leases=self._journal.held())
        kept = self._journal.kept("budgets") or {}
        now_s, boot_s = self._clock.now_s(), self._clock.boot_s()
        same_boot = kept.get("boot_id") == self._clock.boot_id
        spent = {}
        for name, (since_boot_s, day, count) in kept.get("spent", {}).items():
            age_s = boot_s - since_boot_s if same_boot else 0.0
            spent[name] = Spent(now_s - max(age_s, 0.0), int(day), int(count))
        return replace(
            state,
            spent=spent,
            yielded=dict(kept.get("yielded", {})),
            quarantined=dict(kept.get("quarantined", {})),
        )

    def keep_modes(self, now: Modes) -> None:
        """Store the running modes."""
        body = {
            "ceiling": now.ceiling.value, "allowed": sorted(now.allowed), "mode": now.mode.value,
            "armed": sorted(now.armed), "killed": now.killed,
        }  # fmt: skip
        self._keep("modes", body)

    def keep_budgets(self, state: ControlState) -> None:
        """Store budgets, yields and quarantine."""
        offset_s = self._clock.boot_s() - self._clock.now_s()
        spent = {name: (s.last_s + offset_s, s.day, s.count) for name, s in state.spent.items()}
        body = {"boot_id": self._clock.boot_id, "spent": spent,
                "yielded": dict(state.yielded), "quarantined": dict(state.quarantined)}  # fmt: skip
        self._keep("budgets", body)

    def _stored_modes(self) -> Modes | None:
        kept: dict[str, Any] | None = self._journal.kept("modes")
        if not kept:
            return None
        return Modes(Mode(kept["ceiling"]), frozenset(kept["allowed"]), Mode(kept["mode"]),
                     frozenset(kept["armed"]), bool(kept["killed"]))  # fmt: skip

    def _keep(self, key: str, body: dict[str, Any]) -> None:
        try:
            self._journal.keep(key, body)
        except JournalError as error:
            log.critical("journal can't be written", error=str(error))
