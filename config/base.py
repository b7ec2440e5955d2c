"""What every table of a site file shares: strictness, and the spelling of names."""

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

SCOPE = re.compile(r"^(hall|(row|zone|equipment):[A-Za-z0-9][A-Za-z0-9_.:-]*)$")
ID = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$")]
Scope = Annotated[str, Field(pattern=SCOPE.pattern)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class Section(BaseModel):
    """Strict: unknown keys refused, no silent conversion from text to number, numbers that are."""

    # A validator is built when it is first used: most sites use a few of these tables.
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True
    )
