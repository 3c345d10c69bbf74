"""The log of a training as a chart, and its pairs as HTML: plain dictionaries and words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from patchlab.errors import PatchLabError
from patchlab.storage import read_jsonl
from patchlab.training.preference_data import stored_pairs
from patchlab.ui import charts
from patchlab.ui.diff import escaped
from patchlab.ui.train import train_words

MAX_POINTS = 400  # of a line; more are thinned out evenly
EXAMPLES, SHOWN = 3, 400  # pairs that are shown, and characters of each reply
LINES = {"loss": (train_words.LOSS, 1, "y"), "hold": (train_words.HOLD, 2, "y2")}


def logged(work: Path) -> list[dict[str, Any]]:
    """The steps in a training's log so far; a line that is being written is left out."""
    rows: list[dict[str, Any]] = []
    with suppress(PatchLabError):
        rows.extend(read_jsonl(work / "log.jsonl"))
    return rows


def figure(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The loss and the drift by step, with an upright line where a stage begins; `summary` says the last values."""
    starts = [k for k in range(1, len(rows)) if rows[k]["stage"] != rows[k - 1]["stage"]]
    every = -(-len(rows) // MAX_POINTS) or 1
    picked = [(k + 1, row) for k, row in enumerate(rows) if k % every == 0 or k == len(rows) - 1]
    data = [{"type": "scatter", "mode": "lines", "name": words, "x": [step for step, row in picked if name in row],
             "y": [row[name] for _, row in picked if name in row], "yaxis": axis, "line": charts.style(style),
             "hovertemplate": "%{y:.3f} at step %{x}<extra>%{fullData.name}</extra>"}
            for name, (words, style, axis) in LINES.items()]
    quiet = {"fixedrange": True, "zeroline": False, "automargin": True, "rangemode": "tozero"}
    layout = {"template": None, "height": 240, "margin": {"l": 8, "r": 8, "t": 10, "b": 8}, "showlegend": False,
              "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "dragmode": False, "font": {"size": 12},
              "shapes": [{"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": k + 0.5, "x1": k + 0.5,
                          "line": {"color": "#8a94a6", "width": 1, "dash": "dot"}} for k in starts],
              "xaxis": {**quiet, "title": {"text": "step", "standoff": 6}, "showgrid": False, "range": [0, max(len(rows), 10)]},
              "yaxis": quiet, "yaxis2": {**quiet, "overlaying": "y", "side": "right", "showgrid": False}}
    return {"data": data, "layout": layout, "summary": summary(rows)}


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """The last step's numbers in a sentence."""
    if not rows:
        return train_words.NO_STEP
    last = rows[-1]
    return f"Step {last['step']:,} of stage {last['stage']}: loss {last.get('loss', 0):.3f}, KL {last.get('hold', 0):.4f}."


def legend() -> str:
    """The key of the lines."""
    return '<ul class="legend">' + "".join(f'<li style="{charts.stroke(charts.style(style))}">{escaped(words)}</li>'
                                           for words, style, _ in LINES.values()) + "</ul>"


def pairs(work: Path) -> str:
    """How many pairs of replies there are, why others were left out, and a few of them; nothing before there are any."""
    if not (work / "pairs.jsonl").is_file() or not (work / "pairs.json").is_file():
        return ""
    counts: dict[str, int] = json.loads((work / "pairs.json").read_text(encoding="utf-8"))
    reasons = ", ".join(f"{count:,} {why}" for why, count in sorted(counts.items(), key=lambda each: -each[1])
                        if why != "kept" and count)
    said = train_words.PAIRS.format(kept=counts.get("kept", 0),
                                    dropped=train_words.DROPPED.format(reasons=reasons) if reasons else "")
    some = "".join(
        f"<li><p>{escaped(pair.prompt.text[:SHOWN])}</p><p><strong>{train_words.PREFERRED}:</strong> "
        f"{escaped(pair.chosen[:SHOWN])}</p>"
        f"<p><strong>{train_words.REJECTED}:</strong> {escaped(pair.rejected[:SHOWN])}</p></li>"
        for pair in stored_pairs(work / "pairs.jsonl")[:EXAMPLES])
    shown = f"<details><summary>{train_words.SAMPLES}</summary><ul>{some}</ul></details>" if some else ""
    return f'<p class="note">{escaped(said)}</p>{shown}'
