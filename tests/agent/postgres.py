"""A real PostgreSQL for tests: Debian's, in a folder of its own on a free port."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.peers import free_port, peer

USER, PASSWORD = "skadi", "a-password-for-tests"


class Postgres:
    """A cluster that can be stopped and started again. fsync is off: only crashes of the server
    are tested, not of the machine."""

    def __init__(self) -> None:
        self._initdb, self._pg_ctl = peer("initdb"), peer("pg_ctl")
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="skadi-pg-"))
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (self.folder, secret):
                shutil.chown(path, "postgres")
        self._as_postgres(
            self._initdb, "-D", str(self.folder / "db"), "-U", USER, "--pwfile", str(secret),
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
        self._as_postgres(self._pg_ctl, "-D", str(self.folder / "db"), "-w", *what)

    def _as_postgres(self, *command: str) -> None:
        drop = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        prefix = drop if os.geteuid() == 0 else []
        with tempfile.TemporaryFile("w+") as said:
            done = subprocess.run([*prefix, *command], stdout=said, stderr=said, check=False,
                                  stdin=subprocess.DEVNULL, cwd="/")  # fmt: skip
            said.seek(0)
            assert done.returncode == 0, said.read()
