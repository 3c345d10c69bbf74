"""The results of the benchmarks for a preset, where the page runs in a checkout that has them, as an HTML table with goals."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from patchlab.storage import ASSETS
from patchlab.ui.diff import coded, escaped
from patchlab.ui.evaluate import evaluate_words

log = logging.getLogger(__name__)
FOLDER = ASSETS.parent / "benchmarks" / "results"  # not in an installed package
FILES = {"smollm2": "public-*.json", "pocket": "sealed.json"}


def published(preset: str, folder: Path = FOLDER) -> str:
    """The section of a preset's results, those with a goal first, folded in; nothing where there are none."""
    parts = "".join(map(_part, sorted(folder.glob(FILES[preset])))) if preset in FILES else ""
    return f"<h2>{evaluate_words.PUBLISHED_TITLE}</h2>{parts}" if parts else ""


def _part(path: Path) -> str:
    """The figures of one results file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        figures, made = content["figures"], content["made_with"]
        goals = [each for each in figures if each.get("bar")]
        other = [each for each in figures if not each.get("bar")]
        met = sum(bool(each.get("met")) for each in goals)
        parts = ((evaluate_words.GOALS.format(met=met, goals=len(goals)), goals),
                 (evaluate_words.OTHERS.format(count=len(other)), other))
        tables = "".join(f"<details><summary>{words}</summary>{_table(some)}</details>" for words, some in parts if some)
        note = evaluate_words.PUBLISHED_NOTE.format(command=made["command"], date=made["date"])
    except (ValueError, KeyError, TypeError, OSError) as error:  # a file that somebody edits must not close the page
        log.warning("%s cannot be shown: %s", path, error)
        return ""
    return f'<p class="note">{coded(note)}</p>{tables}'


def _table(figures: list[Mapping[str, Any]]) -> str:
    if not figures:
        return ""
    head = "".join(f"<th scope='col'>{name}</th>" for name in evaluate_words.COLUMNS)
    return (f"<table class='measures published'><thead><tr>{head}</tr></thead><tbody>{''.join(map(_row, figures))}</tbody>"
            "</table>")


def _row(figure: Mapping[str, Any]) -> str:
    value, low, high = (float(figure[name]) for name in ("value", "low", "high"))
    known = math.isfinite(value)
    said = f"<strong>{value:.3f}</strong>" if known else evaluate_words.NOTHING
    between = f"{low:.3f} to {high:.3f}" if known and math.isfinite(low) else ""
    goal = ""
    if figure.get("bar"):
        tone, words = ("good", evaluate_words.GOAL_MET) if figure.get("met") else ("bad", evaluate_words.GOAL_MISSED)
        goal = f"<code>{escaped(str(figure['bar']))}</code> <span class='pill {tone}'>{words}</span>"
    return (f"<tr><th scope='row'>{escaped(str(figure['name']))}</th><td>{said}</td><td>{between}</td>"
            f"<td>{int(figure['n']):,}</td><td>{goal}</td></tr>")
