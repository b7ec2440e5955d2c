"""A plant is trained on alone: nobody moves its knobs but the walk."""

import numpy as np

from agent.commissioning import observe_plant
from agent.rehearse import Rehearsal

PLAN = {"seed": "1", "step_s": "60"}


async def test_the_agent_does_not_act_while_it_is_trained() -> None:
    named = await observe_plant(Rehearsal("hall", PLAN, 1.0))
    alone = await observe_plant(Rehearsal("hall", PLAN, 1.0, "fixed"))
    assert len(alone.x) == len(named.x) == 60
    assert not np.ptp(np.nan_to_num(alone.orders[alone.quiet]), axis=0).any()
    assert np.ptp(np.nan_to_num(alone.orders), axis=0).any(), "the walk has moved nothing"
    np.testing.assert_array_equal(named.orders, alone.orders)
    np.testing.assert_array_equal(named.x, alone.x)
