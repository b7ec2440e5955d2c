"""The IMS model as data: what it holds, how it is written down, and how it is read back.

Decides whether a document is a model that can be trusted to score: every array finite, of the
right shape and in range, and the id equal to the digest of the content, so that a truncated or
edited model is refused. Must never run anything found in a document (it is JSON, not pickle).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FORMAT = 1
MAX_FEATURES = 256
MAX_CLUSTERS = 512
MAX_UNITS = 20_000
_MAX_TEXT = 200


class ModelError(ValueError):
    """A document that is not a usable IMS model; the message names the key and what to do."""


@dataclass(frozen=True, slots=True, eq=False)
class ImsModel:
    """A trained model over f features, k regions and u units (u may be 0: all units alike).

    A row x in the features' own units is taken to z = (x - offset - unit_offsets[u]) @ transform.
    A region is the box `centres` ± `half_widths` (k, f) in z. `support` (k,) is each region's
    share of the training rows. `low`, `high` (f,) are the range trained on, in the features' own
    units. `smooth_alpha` in (0, 1] is the weight of a new row in the moving mean that is scored,
    `row_s` the spacing of rows trained on, 0 where not known. `drift_alpha` in [0, 1) is how much
    of a nominal unit's displacement is learned a row, `drift_cap` the most, in scaled units.
    `context` names features that explain others but are not themselves judged (setpoints, weather):
    their columns of `transform` are 0. `trained_on` says where it all came from.
    """

    features: tuple[str, ...]
    offset: Floats
    transform: Floats
    centres: Floats
    half_widths: Floats
    support: Floats
    tau_fast: float
    tau_persist: float
    low: Floats
    high: Floats
    smooth_alpha: float = 1.0
    row_s: float = 0.0
    drift_alpha: float = 0.0
    drift_cap: float = 0.0
    context: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    unit_offsets: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    trained_on: Mapping[str, str | int | float] = field(default_factory=dict)
    id: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The model as plain JSON values; `from_dict` takes it back to the bit."""
        body: dict[str, Any] = {"format": FORMAT, "id": self.id}
        body |= {"features": list(self.features), "units": list(self.units)}
        body["context"] = list(self.context)
        body |= {name: getattr(self, name).tolist() for name in _ARRAYS}
        body |= {name: float(getattr(self, name)) for name in _NUMBERS}
        body["trained_on"] = dict(self.trained_on)
        return body

    @classmethod
    def from_dict(cls, document: object) -> "ImsModel":
        """Read a model back, trusting nothing. Raises ModelError."""
        if not isinstance(document, dict):
            raise ModelError("an IMS model is a JSON object: was this file made by `skadi train`?")
        wanted = {"format", "id", "features", "units", "context", "trained_on", *_ARRAYS, *_NUMBERS}
        odd = sorted(str(key)[:40] for key in set(document) ^ wanted)
        if odd:
            raise ModelError(f"missing or unknown keys {', '.join(odd[:8])}: train it again")
        if document["format"] != FORMAT or isinstance(document["format"], bool):
            raise ModelError(f"format: this release reads format {FORMAT}: train it again")
        features = _names(document, "features", MAX_FEATURES)
        if not features:
            raise ModelError("features: there must be at least one")
        units = _names(document, "units", MAX_UNITS)
        context = _names(document, "context", MAX_FEATURES)
        shapes = _shapes(document, len(features), len(units))
        contents: dict[str, Any] = {n: _array(document[n], n, shapes[n]) for n in _ARRAYS}
        contents |= {name: _number(document[name], name) for name in _NUMBERS}
        model = cls(
            features=features,
            units=units,
            context=context,
            trained_on=_provenance(document["trained_on"]),
            id=str(document["id"])[:_MAX_TEXT],
            **contents,
        )
        _check_ranges(model)
        if model.id != digest(model):
            raise ModelError("id: does not match the content: the model was cut or changed")
        return model


_ARRAYS = (
    "offset", "transform", "centres", "half_widths", "support", "low", "high", "unit_offsets",
)  # fmt: skip
_NUMBERS = ("tau_fast", "tau_persist", "smooth_alpha", "row_s", "drift_alpha", "drift_cap")


def digest(model: ImsModel) -> str:
    """The model's id: 16 hex digits of the SHA-256 of everything else in it."""
    body = model.to_dict()
    del body["id"]
    text = json.dumps(body, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def signed(model: ImsModel) -> ImsModel:
    """The same model with its id set and its arrays read-only. Raises ModelError if unusable."""
    _check_ranges(model)
    for name in _ARRAYS:
        getattr(model, name).setflags(write=False)
    return replace(model, id=digest(model))


def _names(document: dict[str, Any], key: str, most: int) -> tuple[str, ...]:
    value = document[key]
    good = isinstance(value, list) and len(value) <= most
    if not good or not all(isinstance(n, str) and 0 < len(n) <= _MAX_TEXT for n in value):
        raise ModelError(f"{key}: must be a list of at most {most} names")
    if len(set(value)) != len(value):
        raise ModelError(f"{key}: a name appears twice")
    return tuple(value)


def _shapes(document: dict[str, Any], f: int, u: int) -> dict[str, tuple[int, ...]]:
    support = document["support"]
    k = len(support) if isinstance(support, list) else 0
    if not 1 <= k <= MAX_CLUSTERS:
        raise ModelError(f"support: must be a list of 1..{MAX_CLUSTERS} shares")
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("offset", "low", "high"), (f,))
    shapes |= {"transform": (f, f), "centres": (k, f), "half_widths": (k, f), "support": (k,)}
    return shapes | {"unit_offsets": (u, f)}


def _array(value: object, key: str, shape: tuple[int, ...]) -> Floats:
    """Nested lists of real numbers (no booleans, no text) of exactly this shape."""
    flat = np.array(_flatten(value, key, shape), dtype=np.float64).reshape(shape)
    if not np.isfinite(flat).all():
        raise ModelError(f"{key}: holds a number that is not finite")
    flat.setflags(write=False)
    return flat


def _flatten(value: object, key: str, shape: tuple[int, ...]) -> list[float]:
    if not shape:
        return [_number(value, key)]
    if not isinstance(value, list) or len(value) != shape[0]:
        raise ModelError(f"{key}: does not have the shape the features and support ask for")
    return [number for item in value for number in _flatten(item, key, shape[1:])]


def _number(value: object, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
        raise ModelError(f"{key}: must be a finite number")
    return float(value)


def _provenance(value: object) -> dict[str, str | int | float]:
    if not isinstance(value, dict) or len(value) > 100:
        raise ModelError("trained_on: must be an object of at most 100 entries")
    for key, item in value.items():
        plain = isinstance(item, str | int | float) and len(str(item)) <= 2000
        if not isinstance(key, str) or len(key) > _MAX_TEXT or not plain:
            raise ModelError("trained_on: entries are short texts and numbers")
    return dict(value)


def _check_ranges(model: ImsModel) -> None:
    checks = (
        ("tau_fast", 0.0 < model.tau_fast < np.inf),
        ("tau_persist", model.tau_fast <= model.tau_persist < np.inf),
        ("smooth_alpha", 0.0 < model.smooth_alpha <= 1.0),
        ("row_s", 0.0 <= model.row_s < np.inf),
        ("drift_alpha", 0.0 <= model.drift_alpha < 1.0),
        ("drift_cap", 0.0 <= model.drift_cap < np.inf),
        ("context", set(model.context) < set(model.features)),
        ("half_widths", bool((model.half_widths >= 0.0).all())),
        ("support", bool((model.support >= 0.0).all())),
        ("low", bool((model.low <= model.high).all())),
    )
    for key, good in checks:
        if not good:
            raise ModelError(f"{key}: out of range: train it again")
    for key in _ARRAYS:
        if not np.isfinite(getattr(model, key)).all():
            raise ModelError(f"{key}: holds a number that is not finite")
