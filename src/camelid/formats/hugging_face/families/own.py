"""Models that transformers cannot express: GPT-3's banded attention, and hybrids for comparison.

Their config.json holds the `ModelSpec` under an architecture name that transformers does not know, so it
rejects the folder instead of computing something else.
"""

from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter, ValidationError

from camelid.base.errors import CamelidError
from camelid.formats.hugging_face.families.config import Config
from camelid.formats.hugging_face.families.family import Family
from camelid.formats.names import Place
from camelid.model.spec import Learned, LinearScaling, Llama3Scaling, ModelSpec, RelativeBuckets, Rotary

POSITIONS = {"rotary": Rotary, "learned": Learned, "relative": RelativeBuckets}
SCALINGS = {"linear": LinearScaling, "llama3": Llama3Scaling}


def _read(config: Config) -> ModelSpec:
    try:
        table = dict(config["spec"])
        positions = dict(table["positions"])
        kind = POSITIONS[positions.pop("kind")]
        if scaling := positions.get("scaling"):
            scaling = dict(scaling)
            positions["scaling"] = SCALINGS[scaling.pop("kind")](**scaling)
        return _SPEC.validate_python({**table, "positions": kind(**positions)})
    except (KeyError, TypeError, ValueError) as error:
        reason = error.errors()[0] if isinstance(error, ValidationError) else error
        raise CamelidError(
            f"config.json: its spec cannot be read: {reason}; export the model again"
        ) from error


def _write(spec: ModelSpec) -> dict[str, Any]:
    positions = asdict(spec.positions)
    if isinstance(spec.positions, Rotary) and spec.positions.scaling is not None:
        positions["scaling"]["kind"] = _kind(SCALINGS, spec.positions.scaling)
    return {"spec": {**asdict(spec), "positions": {"kind": _kind(POSITIONS, spec.positions), **positions}}}


def _place(spec: ModelSpec, parameter: str) -> Place:
    """LLaMA's names, the same as ours: `model.` before all but the output projection."""
    return Place(parameter if parameter.startswith("lm_head.") else f"model.{parameter}")


def _kind(kinds: dict[str, type], value: object) -> str:
    return next(name for name, kind in kinds.items() if isinstance(value, kind))


_SPEC: TypeAdapter[ModelSpec] = TypeAdapter(ModelSpec)
OWN = Family("CamelidModel", "camelid", _read, _write, _place)
