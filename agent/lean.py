"""What keeps a long-running agent small. `begin` comes before its imports, `settle` after its start.

Decides nothing else; an agent runs the same without it, in some 30 MB more.
"""

import ctypes
import gc
import linecache
import os
import sys

# mallopt(3) of glibc: threads share this many arenas; by default each may get one of its own.
_M_ARENA_MAX, _ARENAS = -8, 2
_UNUSED = "rich"  # libraries draw their logs and tables with it; a service logs JSON


def begin() -> None:
    """Before numpy and structlog are imported."""
    # Matrices here are of some hundred rows: threads of BLAS cost memory and win nothing.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _libc_call("mallopt", _M_ARENA_MAX, _ARENAS)
    # For as long as the process lives: to structlog and BAC0 it is "not installed".
    sys.modules.setdefault(_UNUSED, None)  # type: ignore[arg-type]


def settle() -> None:
    """When the site is loaded and all is made: what loading took goes back to the system."""
    linecache.clearcache()  # sources that libraries have looked into
    gc.collect()
    gc.freeze()  # what is there now stays: it need not be looked through again
    _libc_call("malloc_trim", 0)


def _libc_call(name: str, *values: int) -> None:
    """A call of glibc; nothing where the C library has no such function (musl)."""
    function = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*values)
