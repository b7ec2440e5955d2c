"""Code in the documentation is run: what a page marks is tried in the order in which it stands.

<!-- check -->        the TOML block is a site file's devices or sections: it loads
<!-- file: NAME -->   the block is written to NAME
<!-- run -->          the shell block ends with 0; `run: sim`, `run: agent`: it runs until the page ends;
                      `run: later`: once history has a minute; `run: history`: on a site that has one
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from config.loader import load_site
from tests.docs.test_front_door import DOCS, ROOT

BLOCK = re.compile(r"<!-- (check|run|file)(?:: ?([\w.-]+))? -->\n *```\w+\n(.*?)\n *```", re.DOTALL)
HEAD = 'config_version = 1\n[site]\nid = "docs"\n'
START_S, END_S = 180.0, 120.0
Block = tuple[str, str, str]


def blocks(page: Path) -> list[Block]:
    return [(m[1], m[2] or "", m[3]) for m in BLOCK.finditer(page.read_text(encoding="utf-8"))]


MARKED = {p: blocks(p) for p in DOCS if blocks(p)}
SITES = [(p, text) for p, found in MARKED.items() for kind, _, text in found if kind == "check"]
RUN = [p for p, found in MARKED.items() if any(kind == "run" for kind, _, _ in found)]


def test_each_mark_is_understood_and_there_are_some() -> None:
    marks = sum(p.read_text(encoding="utf-8").count("<!-- ") for p in MARKED)
    assert marks == sum(map(len, MARKED.values()))
    assert len(SITES) >= 8
    assert len(RUN) >= 5


@pytest.mark.parametrize(
    ("page", "text"), SITES, ids=lambda v: v.name if isinstance(v, Path) else ""
)
def test_a_site_in_the_docs_loads(page: Path, text: str, tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text(HEAD + text, encoding="utf-8")
    assert load_site(file, {}).devices


def free_base() -> int:
    """A base for the simulators' ports at which the two devices of the first hour are free."""
    for base in range(20_000 + os.getpid() % 100 * 200, 60_000, 1_000):
        try:
            for host, offset in (("127.0.0.11", 502), ("127.0.0.41", 161)):
                with socket.socket() as tried:
                    tried.bind((host, base + offset))
        except OSError:
            continue
        return base
    raise AssertionError("no ports are free")


class Shell:
    """A folder, what runs in it, and the end of all of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.base = folder, free_base()
        self.env = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder),
            "SKADI_REPO": str(ROOT), "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8",
        }  # fmt: skip
        self.children: list[tuple[subprocess.Popen[bytes], Path]] = []

    def ported(self, text: str) -> str:
        """A page's block with the ports of this test."""
        text = text.replace("skadi sim ", f"skadi sim --port-base {self.base} ")
        return re.sub(r"\b15(\d{3})\b", lambda m: str(self.base + int(m[1])), text)

    def run(self, text: str) -> str:
        done = subprocess.run(["bash", "-euc", text], cwd=self.folder, env=self.env, timeout=END_S,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)  # fmt: skip
        assert done.returncode == 0, f"{text}\n{done.stdout}"
        return done.stdout

    def start(self, text: str, ready: str) -> None:
        """In the background, until `ready` stands in what it says."""
        log = self.folder / f"{len(self.children)}.log"
        with log.open("wb") as out:
            child = subprocess.Popen(["bash", "-euc", f"exec {text}"], cwd=self.folder, env=self.env,
                                     stdout=out, stderr=out)  # fmt: skip
        self.children.append((child, log))
        self.until(lambda: ready in log.read_text(encoding="utf-8"), f"{text}: {log}")

    def until(self, what: Callable[[], bool], about: str) -> None:
        end_s = time.monotonic() + START_S
        while not what():
            assert all(c.poll() is None for c, _ in self.children), [
                log.read_text(encoding="utf-8")[-2000:] for _, log in self.children
            ]
            assert time.monotonic() < end_s, about
            time.sleep(0.3)

    def close(self) -> None:
        for child, _ in reversed(self.children):
            child.send_signal(signal.SIGTERM)
            child.wait(END_S)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    yield made
    made.close()


@pytest.mark.timeout(600)  # a minute of history has to pass, on a host that may be busy
@pytest.mark.parametrize("page", RUN, ids=lambda p: p.name)
def test_the_commands_of_a_page_work_in_their_order(page: Path, shell: Shell) -> None:
    for kind, about, shown in MARKED[page]:
        text = shell.ported(shown)
        match kind, about:
            case "file", name:
                (shell.folder / name).write_text(text, encoding="utf-8")
            case "run", "sim":
                shell.start(text, "simulated time")
            case "run", "agent":
                shell.start(text, '"running"')
            case "run", "later":
                shell.until(lambda: "not measured" not in _limits(shell), "no minute in history")
                shell.run(text)
                assert (shell.folder / "report.pdf").read_bytes().startswith(b"%PDF-")
            case "run", "history":
                (shell.folder / "site.toml").write_text(
                    HEAD + '[agent]\ndata_dir = "data"\n[[device]]\nid = "gate"\nprotocol = "push"\n'
                    '[[device.point]]\nid = "x"\nquantity = "inlet_c"\n', encoding="utf-8")  # fmt: skip
                shell.run(text)
            case "run", _:
                shell.run(text)


def _limits(shell: Shell) -> str:
    told = shell.run("skadi report -c site.toml --since 10m")
    return "\n".join(line for line in told.splitlines() if "rack" in line)
