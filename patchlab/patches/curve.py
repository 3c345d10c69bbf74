"""A curve: figures measured at several strengths of a patch, stored as curve.json in the patch's folder."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import FailFast, Field
from pydantic.dataclasses import dataclass

from patchlab.errors import PatchFormatError
from patchlab.patches.manifest import CURVE_FILE, MAX_STRENGTH, Figure
from patchlab.validation import STRICT, checked, dump, parse, such

MAX_POINTS = 64
MAX_FIGURES = 16  # per point
_DO = "get the patch again from its vendor"


@checked(CURVE_FILE, do=_DO, error=PatchFormatError)
@dataclass(frozen=True, slots=True, config=STRICT | {"revalidate_instances": "always"})
class Point:
    """Figures of the patched lane at one strength, each with its interval, n and scorer. Raises PatchFormatError."""

    strength: Annotated[float, Field(ge=0, le=MAX_STRENGTH)]
    measures: Annotated[tuple[Figure, ...], Field(max_length=MAX_FIGURES), FailFast()]


def _rising(points: tuple[Point, ...]) -> bool:
    strengths = [point.strength for point in points]
    return 1 <= len(strengths) <= MAX_POINTS and sorted(set(strengths)) == strengths


@checked(CURVE_FILE, do=_DO, error=PatchFormatError)
@dataclass(frozen=True, slots=True, config=STRICT)
class Curve:
    """1 to 64 points of rising strength; strength 0 is the base. Raises PatchFormatError."""

    points: Annotated[tuple[Point, ...], FailFast(),
                      such(_rising, f"1 to {MAX_POINTS} points of rising strength")]


def encode_curve(curve: Curve) -> bytes:
    """The bytes of curve.json."""
    return (json.dumps(dump(curve), indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def decode_curve(data: bytes) -> Curve:
    """The curve in the bytes of curve.json. Raises PatchFormatError for missing, unknown or invalid keys and values."""
    return parse(Curve, data, where=CURVE_FILE)
