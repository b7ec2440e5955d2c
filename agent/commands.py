"""Commands that come as messages: what makes one valid, and that it is carried out at most once.

    retained? too big? not the schema? another run's nonce? expired, or valid for too long?
    seen before? unknown principal?  ── any of these: does nothing, and is audited
    otherwise ── the table of operations, which checks role and arguments and audits the call

Decides validity only. Must never raise into the event loop, parse what it has not measured, let
a flood fill the journal, or carry anything out twice. The principal is whom the broker's ACL lets
publish on the topic that bears the name; the message can't say who it is from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent import json_in
from agent.clock import parse_utc
from agent.core import Agent
from agent.operations.table import Caller, call

MOST_BYTES = 16_384
LONGEST_LIFE_S = 30.0  # a command that is under way longer meets another hall than it was meant for
REMEMBERED = 4_096  # ids of commands that are not yet expired; when full, none is taken
NOTES = 20  # ignored commands that are audited at once; then one in NOTE_EVERY_S
NOTE_EVERY_S = 10.0


class Envelope(BaseModel):
    """One command. `nonce` is the run's, from `_agent/status`; `expires` at most 30 s ahead."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{8,64}$")]
    nonce: Annotated[str, Field(min_length=1, max_length=64)]
    operation: Annotated[str, Field(min_length=1, max_length=64)]
    arguments: dict[str, Any] = Field(default_factory=dict)
    expires: Annotated[str, Field(max_length=40)]


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a command, for whoever sent it."""

    id: str
    ok: bool
    refused: bool
    detail: dict[str, Any]


class Inbox:
    """Takes messages one by one. principals: name -> role."""

    def __init__(self, agent: Agent, nonce: str, principals: Mapping[str, str]) -> None:
        self.ignored = 0
        self._agent = agent
        self._nonce = nonce
        self._principals = principals
        self._seen: dict[str, float] = {}  # id -> when it expires
        self._notes = float(NOTES)
        self._noted_s = agent.clock.boot_s()
        self._unsaid = 0

    async def take(self, raw: bytes, principal: str, retained: bool) -> Reply | None:
        """Carry a message out if it is valid. None: it can't even be answered."""
        envelope = self._read(raw, retained)
        if isinstance(envelope, str):
            self._ignore(principal, None, envelope)
            return None
        if why := self._invalid(envelope, principal):
            self._ignore(principal, envelope, why)
            return Reply(envelope.id, False, True, {"reason": why})
        self._seen[envelope.id] = parse_utc(envelope.expires) or 0.0
        caller = Caller(principal, "mqtt", self._principals[principal])
        result = await call(self._agent, envelope.operation, envelope.arguments, caller)
        return Reply(envelope.id, result.ok, result.refused, result.detail)

    def _read(self, raw: bytes, retained: bool) -> Envelope | str:
        """The envelope, or why there is none."""
        if retained:
            return "retained: it was sent to nobody in particular, some time ago"
        try:
            return Envelope.model_validate(json_in.loads(raw, MOST_BYTES))
        except json_in.BadJson as error:
            return str(error)
        except ValidationError as error:
            first = error.errors()[0]
            return f"{'.'.join(map(str, first['loc']))[:64]}: {first['msg']}"

    def _invalid(self, envelope: Envelope, principal: str) -> str | None:
        """Why a well-formed command does nothing, or None."""
        now_s = self._agent.clock.now_s()
        expires_s = parse_utc(envelope.expires)
        if envelope.nonce != self._nonce:
            return "meant for another run of the agent: read nonce from _agent/status"
        if expires_s is None:
            return "expires: write it like 2026-01-31T12:00:00Z"
        if expires_s <= now_s:
            return f"expired {now_s - expires_s:.0f} s ago"
        if expires_s - now_s > LONGEST_LIFE_S:
            return f"valid for {expires_s - now_s:.0f} s; at most {LONGEST_LIFE_S:g} s"
        if principal not in self._principals:
            return "unknown principal: add it to mqtt.principals"
        return self._not_fresh(envelope.id, now_s)

    def _not_fresh(self, id_: str, now_s: float) -> str | None:
        """A duplicate does nothing. Whatever has expired need not be remembered."""
        if id_ in self._seen:
            return "seen before"
        if len(self._seen) >= REMEMBERED:
            # A clock set back only makes us remember longer.
            self._seen = {k: s for k, s in self._seen.items() if s > now_s}
        return "too many commands at once" if len(self._seen) >= REMEMBERED else None

    def _ignore(self, principal: str, envelope: Envelope | None, why: str) -> None:
        """Audit what did nothing; a flood is counted, not written down one by one."""
        self.ignored += 1
        boot_s = self._agent.clock.boot_s()
        self._notes = min(NOTES, self._notes + (boot_s - self._noted_s) / NOTE_EVERY_S)
        self._noted_s = boot_s
        if self._notes < 1.0:
            self._unsaid += 1
            return
        self._notes -= 1.0
        unsaid, self._unsaid = self._unsaid, 0
        self._agent.note("command_ignored", {
            "principal": principal[:64], "channel": "mqtt", "reason": why[:300],
            "id": envelope.id if envelope else None,
            "operation": envelope.operation if envelope else None, "more": unsaid,
        })  # fmt: skip
