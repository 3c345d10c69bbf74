"""A curve: what each strength of a patch does, measured. A JSON file beside the patch, in the manifest's own kind of figures."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from patchlab.errors import PatchFormatError
from patchlab.patches.manifest import CURVE_FILE, MAX_STRENGTH, check_keys, check_measure, measure_to_json
from patchlab.patches.strict_json import parse_object
from patchlab.records import Measure

MAX_POINTS = 64
MAX_FIGURES = 16  # a point


@dataclass(frozen=True, slots=True)
class Point:
    """What one strength does: figures of the patched lane, each with its interval, n and scorer."""

    strength: float
    measures: tuple[Measure, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of rising strength, 0 (the bare base) among them or not. Raises PatchFormatError."""

    points: tuple[Point, ...]

    def __post_init__(self) -> None:
        strengths = [point.strength for point in self.points]
        numbers = all(isinstance(s, (int, float)) and not isinstance(s, bool) and 0 <= s <= MAX_STRENGTH for s in strengths)
        if not 1 <= len(strengths) <= MAX_POINTS or not numbers or sorted(set(strengths)) != strengths:
            _refuse(f"{len(strengths)} points at strengths {str(strengths)[:80]}",
                    f"1 to {MAX_POINTS} points of rising strength from 0 to {MAX_STRENGTH:g}")
        for at, point in enumerate(self.points):
            if len(point.measures) > MAX_FIGURES:
                _refuse(f"{len(point.measures)} figures in point {at}", f"at most {MAX_FIGURES}")
            for number, measure in enumerate(point.measures):
                check_measure(measure, f"{CURVE_FILE} points[{at}].measures[{number}]")


def encode_curve(curve: Curve) -> bytes:
    """A curve as the bytes of its file."""
    rows = [{"strength": float(point.strength), "measures": [measure_to_json(measure) for measure in point.measures]}
            for point in curve.points]
    return (json.dumps({"points": rows}, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def decode_curve(data: bytes) -> Curve:
    """The curve in a file's bytes. Raises PatchFormatError for missing, unknown or wrong keys and values."""
    content = parse_object(data, where=CURVE_FILE)
    check_keys(content, Curve, "", file=CURVE_FILE)
    return Curve(tuple(_point(row, at) for at, row in enumerate(_rows(content["points"], "points"))))


def _point(row: Any, at: int) -> Point:
    check_keys(row, Point, f"points[{at}]", file=CURVE_FILE)
    found = _rows(row["measures"], f"points[{at}].measures")
    for number, measure in enumerate(found):
        check_keys(measure, Measure, f"points[{at}].measures[{number}]", file=CURVE_FILE)
    return Point(row["strength"], tuple(Measure(**{f.name: measure[f.name] for f in fields(Measure)}) for measure in found))


def _rows(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        _refuse(f"{type(value).__name__} as {where}", "a list")
    return value


def _refuse(found: str, expected: str) -> NoReturn:
    raise PatchFormatError(f"{CURVE_FILE} holds {found}", expected=expected, do="get the patch again from its vendor")
