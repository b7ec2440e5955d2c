"""The JSON schema of a site file, made from the models that check it."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from config.loader import CONFIG_VERSION, LISTS, OPTIONAL, SECTIONS
from config.schema import DeviceSection, PointSection


def site_schema() -> dict[str, Any]:
    """Return a JSON schema (draft 2020-12) for editors."""
    device = create_model(
        "Device", __base__=DeviceSection, point=(list[PointSection], Field(default_factory=list))
    )
    fields: dict[str, Any] = {"config_version": (int, Field(CONFIG_VERSION))}
    for name, model in SECTIONS.items():
        required = name == "site"
        fields[name] = (model, ...) if required else (model | None, None)
    for name, model in LISTS.items():
        item: Any = device if name == "device" else model
        fields[name] = (list[item], Field(default_factory=list))
    whole = create_model("SkadiSite", __base__=_Strict, **fields)
    assert set(SECTIONS) >= OPTIONAL
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | whole.model_json_schema()


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
