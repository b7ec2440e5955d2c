"""Field devices in the process: registers, priority arrays, and every way they can misbehave.

Shares nothing with the agent: a device knows its own values, logs every write that reaches it
with the time, and answers, refuses, lies, loses answers or is overruled by an operator as a
test tells it to.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


class Silent(Exception):
    """The device gives no answer."""


class No(Exception):
    """The device answers with a refusal."""


@dataclass(frozen=True, slots=True)
class Wrote:
    """One value that reached a device. value None: the slot was relinquished. by: us | operator.

    request: values of one request of ours share its number.
    """

    t_s: float
    device: str
    key: str
    value: float | None
    before: float
    after: float
    by: str = "us"
    request: int = 0


@dataclass(slots=True)
class Cell:
    """One writable value: a register, or an object with 16 priority slots over its default."""

    value: float
    slots: dict[int, float] | None = None

    def present(self) -> float:
        """What rules now."""
        return self.slots[min(self.slots)] if self.slots else self.value


@dataclass(slots=True)
class Field:
    """One device. The knobs that begin with a verb are faults; all are off."""

    name: str
    now_s: Callable[[], float]
    cells: dict[str, Cell]
    log: list[Wrote]
    up: bool = True
    refuses: bool = False
    lies: float = 0.0  # added to every value it takes
    ignores: bool = False  # says yes and does nothing
    loses_answer: bool = False  # does it, and says nothing
    loses_request: bool = False  # does not do it, and says nothing
    reads_nothing: bool = False
    writes: int = 0
    seen: set[str] = field(default_factory=set)  # what was read since a test last emptied it
    unproven: bool = False  # it made something else of a write, and was not read since
    on_write: Callable[[], None] | None = None

    def read(self, key: str, priority: int) -> tuple[float, int | None, float | None]:
        """Return (present value, active priority, our slot)."""
        if not self.up or self.reads_nothing:
            raise Silent(f"{self.name} is silent")
        cell = self.cells[key]
        active = min(cell.slots) if cell.slots else None
        self.seen.add(key)
        self.unproven = False
        return cell.present(), active, cell.slots.get(priority) if cell.slots is not None else None

    def write(self, values: Mapping[str, float | None], priority: int) -> None:
        """Take a write of several values as one change."""
        self.writes += 1
        if self.on_write is not None:
            self.on_write()
        if not self.up or self.loses_request:
            raise Silent(f"{self.name} is silent")
        if self.refuses:
            raise No(f"{self.name} refuses")
        if not self.ignores:
            for key, value in values.items():
                self._take(key, value, priority)
        if self.loses_answer:
            raise Silent(f"{self.name} did it and is silent")

    def _take(self, key: str, value: float | None, priority: int) -> None:
        cell = self.cells[key]
        before = cell.present()
        self.unproven = value is not None and self.lies != 0.0
        if cell.slots is None:
            if value is None:
                raise No(f"{self.name}: {key} has no slots")
            cell.value = value + self.lies
        elif value is None:
            cell.slots.pop(priority, None)
        else:
            cell.slots[priority] = value + self.lies
        after = cell.present()
        self.log.append(
            Wrote(self.now_s(), self.name, key, value, before, after, request=self.writes)
        )

    def operator(self, key: str, value: float | None, priority: int = 8) -> None:
        """A person sets a value at the device, or (None) takes it back."""
        cell = self.cells[key]
        before = cell.present()
        if cell.slots is None:
            if value is None:
                return
            cell.value = value
        elif value is None:
            cell.slots.pop(priority, None)
        else:
            cell.slots[priority] = value
        self.log.append(
            Wrote(self.now_s(), self.name, key, value, before, cell.present(), "operator")
        )

    def reboot(self) -> None:
        """The priority arrays are lost; registers are in EEPROM."""
        for key, cell in self.cells.items():
            if cell.slots:
                before, cell.slots = cell.present(), {}
                self.log.append(
                    Wrote(self.now_s(), self.name, key, None, before, cell.present(), "operator")
                )
