"""What every table of a site file shares: strictness, and the spelling of names."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class Section(BaseModel):
    """Strict: unknown keys refused, no silent conversion from text to number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
