"""README, CONTRIBUTING and docs name only what is there: commands, options, make targets, files."""

import re
import shlex
from pathlib import Path

import click
import pytest

from agent.cli import skadi
from simulators.__main__ import parser

ROOT = Path(__file__).parents[2]
DOCS = sorted(
    p for p in (ROOT / "docs").rglob("*.md") if not {"reference", "_build"} & set(p.parts)
)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]
# A command in a code block or in backticks; not one inside a sentence.
COMMAND = re.compile(r"(?:^ *|`)skadi ([a-z][^`\n]*)", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#]+)\)")
TARGET = re.compile(r"(?:^    |`)make ([a-z-]+)", re.MULTILINE)
FOLDER = re.compile(
    r"`((?:agent|config|control|drivers|simulators|tests|docs|systemd|requirements)/[\w./-]*)`"
)


def commands() -> list[str]:
    return sorted({
        line.split("#")[0].split(">")[0].strip(" \\")
        for page in PAGES for line in COMMAND.findall(page.read_text(encoding="utf-8"))
    })  # fmt: skip


@pytest.mark.parametrize("line", commands())
def test_a_command_that_is_shown_exists_with_its_options(line: str) -> None:
    words = shlex.split(line.replace("|", " | "))
    command: click.Command = skadi
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        found = command.get_command(click.Context(command), name)
        assert found is not None, f"skadi {line}: no command {name}"
        command = found
    if command.name == "sim":  # hands its options on
        parser().parse_args(words)
        return
    known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
    assert {w.split("=")[0] for w in words if w.startswith("-")} <= known, line


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_folders_and_targets_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(TARGET.findall(text)) <= set(targets)
    for link in LINK.findall(text):
        made = "reference/" in link or "://" in link  # by `make docs`, or elsewhere
        assert made or (page.parent / link).exists(), link
    for name in FOLDER.findall(text):
        if "NAME" in name:
            continue  # yours to choose
        assert (ROOT / name).exists(), name
