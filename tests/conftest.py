"""What every test may ask for."""

from collections.abc import Callable

import pytest

from tests import peers


@pytest.fixture(scope="session")
def peer() -> Callable[[str], str]:
    """`peer("mosquitto")`: its path; skips without it, fails under SKADI_REQUIRE_PEERS=1."""
    return peers.peer
