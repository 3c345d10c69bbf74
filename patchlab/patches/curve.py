"""A curve: what each strength of a patch does, measured. A JSON file beside the patch, in the manifest's own kind of figures."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import FailFast, Field
from pydantic.dataclasses import dataclass

from patchlab.errors import PatchFormatError
from patchlab.patches.manifest import CURVE_FILE, MAX_STRENGTH, Figure
from patchlab.validation import STRICT, checked, dump, parse, such

MAX_POINTS = 64
MAX_FIGURES = 16  # a point
_DO = "get the patch again from its vendor"


@checked(CURVE_FILE, do=_DO, error=PatchFormatError)
@dataclass(frozen=True, slots=True, config=STRICT | {"revalidate_instances": "always"})
class Point:
    """What one strength does: figures of the patched lane, each with its interval, n and scorer. Raises PatchFormatError."""

    strength: Annotated[float, Field(ge=0, le=MAX_STRENGTH)]
    measures: Annotated[tuple[Figure, ...], Field(max_length=MAX_FIGURES), FailFast()]


def _rising(points: tuple[Point, ...]) -> bool:
    strengths = [point.strength for point in points]
    return 1 <= len(strengths) <= MAX_POINTS and sorted(set(strengths)) == strengths


@checked(CURVE_FILE, do=_DO, error=PatchFormatError)
@dataclass(frozen=True, slots=True, config=STRICT)
class Curve:
    """Points of rising strength, 0 (the bare base) among them or not. Raises PatchFormatError."""

    points: Annotated[tuple[Point, ...], FailFast(),
                      such(_rising, f"1 to {MAX_POINTS} points of rising strength")]


def encode_curve(curve: Curve) -> bytes:
    """A curve as the bytes of its file."""
    return (json.dumps(dump(curve), indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def decode_curve(data: bytes) -> Curve:
    """The curve in a file's bytes. Raises PatchFormatError for missing, unknown or wrong keys and values."""
    return parse(Curve, data, where=CURVE_FILE)
