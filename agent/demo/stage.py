"""Where the demo is seen: a live screen in a terminal, plain lines anywhere else.

Decides only which of the two. With --json all of it goes to stderr, stdout keeps one object.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live

from agent.clock import parse_utc
from agent.demo.verdict import Limits, summary, table
from agent.screen.draw import Frame, draw, picture, plain, plain_line
from agent.screen.view import Line, View

PLAIN_EVERY_S = 600.0  # simulated seconds between two lines of figures
PICTURE = (150, 40)  # columns and lines of the screen in a picture


class Stage:
    """What people see of a demo."""

    def __init__(self, to_stderr: bool) -> None:
        self._console = Console(stderr=to_stderr, highlight=False)
        self._live: Live | None = None
        self._view = View()
        self._frame = Frame("")
        self._said_s = 0.0
        self._last: RenderableType = ""  # the screen as it was when the hours were over

    def say(self, text: str) -> None:
        """A line of the demo's own."""
        self._console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """A spinner while something is under way; nothing where there is no terminal."""
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(what):
            yield

    @contextmanager
    def screen(
        self, view: View, title: str, baseline_wh: float | None, limits: Limits
    ) -> Iterator[None]:
        """The live screen over `view` until the block ends; its last picture stays."""
        self._view = view
        self._frame = Frame(
            title, baseline_wh, limits.inlet_max_c, limits.latency_p95_max_ms, limits.rack_max_kw,
            "Ctrl-C ends it",
        )  # fmt: skip
        if not self._console.is_terminal:
            yield
        else:
            live = Live(console=self._console, auto_refresh=False, redirect_stderr=False)
            with live as self._live:
                try:
                    yield
                finally:
                    self.draw()
                    self._live = None
        self._last = draw(view, self._frame, *PICTURE)

    def draw(self) -> None:
        """Bring the screen up to date; without a terminal, a line of figures now and then."""
        if self._live is not None:
            size = self._console.size
            whole = draw(self._view, self._frame, size.width, size.height - 1)
            self._live.update(whole, refresh=True)
        elif not self._console.is_terminal:
            now_s = parse_utc(self._view.ts) or 0.0
            if now_s - self._said_s >= PLAIN_EVERY_S:
                self._said_s = now_s
                self.say(plain(self._view, self._frame))

    def line(self, line: Line) -> None:
        """Something that happened: the screen shows it by itself, plain output says it."""
        if not self._console.is_terminal:
            self.say(plain_line(line))

    def verdict(self, result: Mapping[str, Any]) -> None:
        """The table, the sentence, and what failed."""
        self._console.print(table(result))
        for text in result["failures"]:
            self.say(f"FAILED: {text}")
        self.say(summary(result))

    def picture(self, result: Mapping[str, Any]) -> str:
        """The last screen, and the verdict below it, as an SVG."""
        width, height = PICTURE
        paper = Console(record=True, width=width, height=height, force_terminal=True,
                        color_system="truecolor", highlight=False, file=StringIO())  # fmt: skip
        paper.print(self._last)
        paper.print(table(result))
        paper.print(summary(result))
        return picture(paper, "skadi demo")
