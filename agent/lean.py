"""What keeps a long-running agent small. `begin` comes before its imports, `settle` after its start.

Decides nothing else; an agent runs the same without it, in some 40 MB more.
"""

import ctypes
import gc
import linecache
import os
import sys
from types import ModuleType

# mallopt(3) of glibc. Threads share two arenas (by default each may get one of its own). What is
# large goes back to the system when it is freed, and what is free at the end of the heap, too: the
# bounds are glibc's own to begin with, but grow with each large block that is freed unless they are set.
_MALLOPT = {-8: 2, -3: 128 << 10, -1: 256 << 10}  # M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
_ABSENT = "rich"  # libraries draw their logs and tables with it; a service logs JSON
# Imported by libraries and never used here. SQLAlchemy's asyncio engine brings its whole ORM along
# for the first two (history uses the core alone); FastAPI asks whether a model is one of pydantic 1.
_HOLLOW = ("sqlalchemy.ext.asyncio.scoping", "sqlalchemy.ext.asyncio.session", "pydantic.v1")


class _Absent:
    """Stands for whatever is asked of a hollow module: nothing is an instance of it."""


def begin() -> None:
    """Before numpy and structlog are imported."""
    # Matrices here are of some hundred rows: threads of BLAS cost memory and win nothing.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for option, value in _MALLOPT.items():
        _libc_call("mallopt", option, value)
    gc.disable()  # until `settle`: what imports allocate stays, looking through it is in vain
    # For as long as the process lives: to structlog and BAC0 it is "not installed".
    sys.modules.setdefault(_ABSENT, None)  # type: ignore[arg-type]
    for name in _HOLLOW:
        hollow = ModuleType(name)
        setattr(hollow, "__getattr__", lambda _name: _Absent)  # noqa: B010
        sys.modules.setdefault(name, hollow)


def settle() -> None:
    """When the site is loaded and all is made, and again when history is: what loading took goes
    back to the system."""
    linecache.clearcache()  # sources that libraries have looked into
    gc.collect()
    gc.freeze()  # what is there now stays: it need not be looked through again
    gc.enable()
    _libc_call("malloc_trim", 0)


def _libc_call(name: str, *values: int) -> None:
    """A call of glibc; nothing where the C library has no such function (musl)."""
    function = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*values)
