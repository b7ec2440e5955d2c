"""Where `skadi top` looks: the local socket of an agent on this host, or an agent's HTTP API."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.local import ask

Json = dict[str, Any]
Source = Callable[[], tuple[Json, Json, list[Json]]]  # overview, heat map, new events

_TIMEOUT_S = 10.0
_MOST = 100  # events in one look
_TOLD = ["action", "ending", "judged", "trouble", "alarm", "event"]  # what a screen has lines for
_MOST_BYTES = 8_000_000


def local(folder: Path) -> Source:
    """An agent on this host. Calling it raises ConnectionError when none answers."""
    place: dict[str, Any] = {"boot": "", "seq": None}

    def look() -> tuple[Json, Json, list[Json]]:
        overview = _detail(ask(folder, "overview"))
        since = place["seq"] if overview.get("boot") == place["boot"] else None
        wanted = {"limit": _MOST, "types": _TOLD} | ({} if since is None else {"since": since})
        told = _detail(ask(folder, "events", wanted))
        events: list[Json] = told["events"]
        all_of_them = len(events) < _MOST
        place.update(boot=told["boot"], seq=told["seq"] if all_of_them else events[-1]["seq"])
        return overview, _detail(ask(folder, "heatmap")), events

    return look


def _detail(reply: Json) -> Json:
    if not reply.get("ok"):
        raise ConnectionError(str(reply.get("detail", {}).get("reason", "no answer")))
    detail: Json = reply["detail"]
    return detail


def remote(url: str, token_env: str) -> Source:
    """An agent's HTTP API. Calling it raises ConnectionError when it can't be read."""
    base = url.rstrip("/")
    token = os.environ.get(token_env)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    seen: set[str] = set()

    def get(path: str) -> Json:
        try:
            request = urllib.request.Request(base + path, headers=headers)
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
                found: Json = json.loads(answer.read(_MOST_BYTES))
                return found
        except urllib.error.HTTPError as error:
            hint = f"; set {token_env}" if error.code == 401 else ""
            raise ConnectionError(f"{base}{path}: status {error.code}{hint}") from error
        except (OSError, ValueError) as error:
            hint = "; name its certificate in SSL_CERT_FILE" if "CERTIFICATE" in str(error) else ""
            raise ConnectionError(f"{base}{path}: {error}{hint}") from error

    def look() -> tuple[Json, Json, list[Json]]:
        overview, heat = get("/state/overview"), get("/heatmap")
        acts = get("/actions/log?limit=50")["actions"]
        fresh = [a for a in reversed(acts) if a["id"] not in seen]
        seen.update(a["id"] for a in fresh)
        return (
            overview,
            heat,
            [{"type": a["type"], "ts": a["ts"], "body": a["detail"]} for a in fresh],
        )

    return look
