"""The interaction matrix as a heat map and as sentences: plain dictionaries and words; no model, no page is needed.

Colours are see-through, so that text in the page's own colour reads well on them, on white and on near-black alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any

from patchlab.patches.interactions import HARMLESS_METRIC, HARMLESS_SUITE, Cell, InteractionRow, Interactions, label
from patchlab.patches.manifest import Manifest
from patchlab.patches.stack import Mode
from patchlab.ui.diff import escaped

WORSE, EVEN, BETTER = "rgba(208, 62, 74, 0.62)", "rgba(138, 148, 166, 0.12)", "rgba(47, 158, 143, 0.62)"
LONGEST = 26  # characters of a patch's title in the chart
ROOMY = 4  # patches with which a square has room for two lines
NAMED = 3  # fighting pairs that the summary names
SIDE = {"parallel": "side by side", "sequential": "one after another", "blend": "blended"}
COMMAND = {"parallel": "patchlab patches matrix", "sequential": "patchlab patches matrix --mode sequential",
           "blend": "patchlab patches matrix --mode blend"}


@dataclass(frozen=True, slots=True)
class Shown:
    """One thing that the heat map can show: its words, which cell of a row it is, and the change with the full colour."""

    title: str
    note: str
    cell: Callable[[InteractionRow, Manifest], Cell | None]
    full: float
    share: bool = True


def _own(row: InteractionRow, manifest: Manifest) -> Cell | None:
    return next((cell for cell in row.cells if cell.patch == label(manifest)), None)


def _harmless(row: InteractionRow, _: Manifest) -> Cell | None:
    return row.cell(HARMLESS_SUITE, HARMLESS_METRIC)


def _drift(row: InteractionRow, _: Manifest) -> Cell | None:
    return row.cell("drift", "kl_to_base")


SHOWN = {
    "own": Shown("Own effect", "Read a row: what a patch gains (+) or loses (−) of its own effect, in percentage points, when "
                 "the patch of the column is on as well.", _own, 20.0),
    "harmless": Shown("Harmless requests refused", "How often the two together refuse harmless requests, and by how many "
                      "percentage points that is better (+) or worse (−) than the worse of them alone.", _harmless, 10.0),
    "drift": Shown("Drift", "How far the two together move the model on harmless requests (KL to the base, nats a token), and "
                   "how much less (+) or more (−) that is than the worse of them alone.", _drift, 0.1, share=False),
}


def pairs(manifests: Sequence[Manifest], mode: Mode) -> list[tuple[Manifest, Manifest]]:
    """Every two patches, in both orders where order matters."""
    return list(permutations(manifests, 2) if mode == "sequential" else combinations(manifests, 2))


def measured(interactions: Interactions, manifests: Sequence[Manifest], mode: Mode) -> list[InteractionRow]:
    """The pairs of these patches that were measured in this mode."""
    found = (interactions.find(one.base.fingerprint, (label(one), label(other)), mode) for one, other in pairs(manifests, mode))
    return [row for row in found if row]


def figure(interactions: Interactions, manifests: Sequence[Manifest], mode: Mode, shown: str) -> dict[str, Any]:
    """The heat map, in Plotly's `data` and `layout`, with `summary`: the same in sentences, for screen readers.

    A row a patch, a column the patch that is on as well. In sequential mode a square tells both orders and has the colour of
    the worse.
    """
    what, count = SHOWN[shown], len(manifests)
    grid = [[_square(interactions, one, other, mode, what, small=count > ROOMY) for other in manifests] for one in manifests]
    places, titles = list(range(count)), [_ticks(manifest.title) for manifest in manifests]
    trace = {
        "type": "heatmap", "x": places, "y": places, "xgap": 3, "ygap": 3, "zmin": -1, "zmax": 1, "showscale": False,
        "z": [[square.z for square in line] for line in grid], "text": [[square.text for square in line] for line in grid],
        "texttemplate": "%{text}", "textfont": {"size": 12 if count <= ROOMY else 10},
        "customdata": [[square.words for square in line] for line in grid],
        "hovertemplate": "%{customdata}<extra></extra>", "hoverongaps": False,
        "colorscale": [[0, WORSE], [0.5, EVEN], [1, BETTER]]}
    quiet = {"fixedrange": True, "zeroline": False, "showgrid": False, "showline": False, "automargin": True, "ticks": "",
             "tickvals": places, "ticktext": titles}
    layout = {
        "template": None, "height": 74 + (58 if count <= ROOMY else 40) * count, "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "showlegend": False, "font": {"size": 12},
        "xaxis": {**quiet, "side": "top", "tickangle": 0 if count <= ROOMY else -90},
        "yaxis": {**quiet, "autorange": "reversed", "ticklabelstandoff": 6}, "dragmode": False,
        "hoverlabel": {"align": "left"}, "uirevision": f"{mode} {shown}"}
    return {"data": [trace], "layout": layout, "summary": f"{what.title}. {summary(interactions, manifests, mode)}"}


# what the figure of a patch's own effect counts, by metric
COUNTED = {"toxic_rate": "replies scored toxic", "refusal_rate": "harmful requests refused",
           "stereotype_rate": "pronouns that follow the stereotype, 50 % is even", "helpful_rate": "helpful answers"}


def counted(interactions: Interactions, manifests: Sequence[Manifest], mode: Mode) -> str:
    """What the figures of own effects count, patch by patch, as a sentence; nothing where nothing was measured."""
    said = []
    for manifest in manifests:
        row = interactions.find(manifest.base.fingerprint, (label(manifest),), mode)
        cell = _own(row, manifest) if row else None
        if cell:
            said.append(f"{manifest.title}: {COUNTED.get(cell.metric, cell.metric.replace('_', ' '))}")
    return f"Its own effect is, for {'; '.join(said)}." if said else ""


@dataclass(frozen=True, slots=True)
class _Square:
    """How good or bad from -1 to 1 (None: not measured), what stands in the square, and what is said of it."""

    z: float | None = None
    text: str = ""
    words: str = "not measured"


def _square(interactions: Interactions, one: Manifest, other: Manifest, mode: Mode, what: Shown, *, small: bool) -> _Square:
    """What `what` says of `one` with `other`, or of `one` alone where they are the same; `small` leaves room for little."""
    def stacked(*stack: Manifest) -> tuple[InteractionRow, Cell] | None:
        row = interactions.find(one.base.fingerprint, tuple(map(label, stack)), mode)
        cell = what.cell(row, one) if row else None
        return (row, cell) if row and cell and cell.n else None

    if one is other:
        found = stacked(one)
        return _Square() if not found else _Square(
            0.0, f"{_figure(found[1].value, what)}<br>alone" if not small else "", f"{escaped(one.title)} alone<br>" + _said(
                found[1], what))
    orders = [stacked(one, other), stacked(other, one)] if mode == "sequential" else [stacked(one, other)]
    changes = [(each[1].change.value, each) for each in orders if each and each[1].change and each[1].change.known]
    if not changes:
        return _Square()
    lines = [f"{['1st', '2nd'][k] + ' ' if mode == 'sequential' and not small else ''}{_short(each, what, small=small)}"
             for k, each in enumerate(orders) if each]
    if mode != "sequential" and not small:
        row, cell = changes[0][1]
        lines.append("<b>fights</b>" if cell in row.fights else _figure(cell.value, what))
    worst = min(value for value, _ in changes)
    return _Square(max(-1.0, min(1.0, worst / what.full)), "<br>".join(lines),
                   "<br><br>".join(_told(row, cell, what) for _, (row, cell) in changes))


def _short(found: tuple[InteractionRow, Cell], what: Shown, *, small: bool) -> str:
    """A change in a square: bold where it says fight."""
    row, cell = found
    if cell.change is None or not cell.change.known:
        return ""
    text = _minus(format(cell.change.value, ("+.0f" if small else "+.1f") if what.share else "+.2f"))
    return f"<b>{text}</b>" if cell in row.fights else text


def _told(row: InteractionRow, cell: Cell, what: Shown) -> str:
    """All that is known of a figure of a pair, as lines."""
    assert cell.change is not None
    sign = "+.1f" if what.share else "+.3f"
    numbers = [_minus(format(value, sign)) for value in (cell.change.value, cell.change.low, cell.change.high)]
    against = f"against {', '.join(cell.change.against)} alone:<br>{numbers[0]} {cell.change.unit} ({numbers[1]} to {numbers[2]})"
    joined = " then " if row.mode == "sequential" else " + "
    return "<br>".join([escaped(joined.join(row.stack)), _said(cell, what), against])


def _said(cell: Cell, what: Shown) -> str:
    low, high = _figure(cell.low, what), _figure(cell.high, what)
    return (f"{escaped(cell.suite)}, {escaped(cell.metric.replace('_', ' '))}: {_figure(cell.value, what)}<br>"
            f"95 % interval {low} to {high}, n = {cell.n}, scorer {escaped(cell.scorer)}")


def _figure(value: float, what: Shown) -> str:
    return _share(value) if what.share else f"{value:.3f}"


def summary(interactions: Interactions, manifests: Sequence[Manifest], mode: Mode) -> str:
    """What was found about these patches in this mode, in plain sentences; how to measure where nothing is known."""
    rows, all_pairs = measured(interactions, manifests, mode), pairs(manifests, mode)
    if not rows:
        return f"How these patches do {SIDE[mode]} has not been measured yet: `{COMMAND[mode]}` does it."
    titles = {label(manifest): manifest.title for manifest in manifests}
    fighting = [row for row in rows if row.fights]
    count = f"{len(rows)} pairs" if len(rows) > 1 else "one pair"
    said = [f"None of the {count} measured {SIDE[mode]} is known to fight." if not fighting and len(rows) > 1 else
            f"The one pair measured {SIDE[mode]} is not known to fight." if not fighting else
            f"{len(fighting)} of {count} measured {SIDE[mode]} {'is' if len(fighting) == 1 else 'are'} known to fight: "
            + _some([_pair(row, titles) for row in fighting]) + "."]
    own = [(cell, row) for row in rows for cell in row.cells if cell.patch and cell.change and cell.change.known]
    if own:
        said.append(_most(*min(own, key=lambda each: each[0].change.value if each[0].change else 0.0), titles))
    if len(rows) < len(all_pairs):
        missing = len(all_pairs) - len(rows)
        said.append(f"{missing} {'is' if missing == 1 else 'are'} not measured yet: `{COMMAND[mode]}` does it.")
    return " ".join(said)


def _most(cell: Cell, row: InteractionRow, titles: dict[str, str]) -> str:
    """The largest loss of an own effect, or that there is none."""
    assert cell.change is not None
    if cell.change.value >= 0:
        return f"In this measurement no patch loses any of its own effect (n = {cell.change.n})."
    [other] = [titles[name] for name in row.stack if name != cell.patch]
    interval = f"95 % interval {_minus(f'{-cell.change.high:.1f}')} to {-cell.change.low:.1f}, n = {cell.change.n}"
    return (f"The most that a patch loses of its own effect is {-cell.change.value:.1f} points: {titles[cell.patch]} with "
            f"{other} ({interval}).")


def _some(names: Sequence[str]) -> str:
    """The first few names, and how many more."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return "; ".join(names[:NAMED]) + more


def _pair(row: InteractionRow, titles: dict[str, str]) -> str:
    return (" then " if row.mode == "sequential" else " with ").join(titles[name] for name in row.stack)


def _ticks(title: str) -> str:
    """A title as lines of a few words."""
    short = title if len(title) <= LONGEST else title[:LONGEST - 1] + "…"
    lines: list[str] = []
    for word in short.split():
        if lines and len(lines[-1]) + len(word) < 11:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "<br>".join(map(escaped, lines))


def _share(value: float) -> str:
    return f"{100 * value:.0f} %" if value in (0.0, 1.0) or 0.1 <= value <= 0.995 else f"{100 * value:.1f} %"


def _minus(text: str) -> str:
    """The text with minus signs that are as wide as plus signs."""
    return text.replace("-", "−")
