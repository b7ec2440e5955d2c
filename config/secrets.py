"""References to secrets, and the one place that turns a reference into a value.

A site file never holds a secret: it says where to find one. `resolve` reads it when
a driver connects; the value is wrapped so that no repr, log line or exception shows it.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, SecretStr, model_validator

HOW_TO = 'write { env = "NAME" }, { file = "/path" } or { credential = "name" }'


class SecretError(Exception):
    """A secret that can't be read. The message names where it should be, never its value."""


class SecretRef(BaseModel):
    """Where a secret lives: an environment variable, a file, or a systemd credential."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    env: str | None = None
    file: Path | None = None
    credential: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_literal(cls, value: object) -> object:
        if isinstance(value, str):
            raise ValueError(f"a secret must not stand in the file: {HOW_TO}")
        return value

    @model_validator(mode="after")
    def _exactly_one(self) -> "SecretRef":
        given = [v for v in (self.env, self.file, self.credential) if v]
        if len(given) != 1:
            raise ValueError(f"exactly one place for a secret: {HOW_TO}")
        if self.credential and ("/" in self.credential or self.credential in {".", ".."}):
            raise ValueError("a credential is a plain name inside $CREDENTIALS_DIRECTORY")
        return self

    def describe(self) -> str:
        """Say where the secret is, for people; never the secret."""
        for kind in ("env", "file", "credential"):
            if value := getattr(self, kind):
                return f"{kind}:{value}"
        raise AssertionError("validated: one place is set")


def resolve(ref: SecretRef, environ: Mapping[str, str] | None = None) -> SecretStr:
    """Read the secret behind `ref`. Raises SecretError naming the place and the way out."""
    env = os.environ if environ is None else environ
    if ref.env is not None:
        if not env.get(ref.env):
            raise SecretError(
                f"environment variable {ref.env} is not set: export it or add it to .env"
            )
        return SecretStr(env[ref.env])
    if ref.credential is not None:
        folder = env.get("CREDENTIALS_DIRECTORY")
        if not folder:
            raise SecretError(
                f"credential {ref.credential}: $CREDENTIALS_DIRECTORY is not set;"
                " run under systemd with LoadCredential="
            )
        return _read(Path(folder) / ref.credential)
    assert ref.file is not None
    return _read(ref.file)


def _read(path: Path) -> SecretStr:
    try:
        text = path.read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SecretError(
            f"secret file {path}: {type(error).__name__}: make it readable text"
        ) from None
    if not text:
        raise SecretError(f"secret file {path} is empty")
    return SecretStr(text)
