"""What every test may ask for."""

import os
from collections.abc import Callable

import pytest
from hypothesis import settings

from tests import peers


@pytest.fixture(scope="session")
def peer() -> Callable[[str], str]:
    """`peer("mosquitto")`: its path; skips without it, fails under SKADI_REQUIRE_PEERS=1."""
    return peers.peer


# The same examples every time: what a run of `make test` says is about the change, not about luck.
# HYPOTHESIS_PROFILE=explore looks for new ones. No deadline: machines are shared and slow.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
