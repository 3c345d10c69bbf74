"""The list of a visitor's runs: rows of words and numbers, and their table. The browser keeps them, with their replies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from patchlab.ui import copy
from patchlab.ui.compare.reply_columns import chips
from patchlab.ui.diff import escaped
from patchlab.ui.session import LaneView, View
from patchlab.ui.share import share_words

SHOWN, KEPT = 90, 50  # characters of a prompt; rows


@dataclass(frozen=True, slots=True)
class PastRun:
    """One run: its prompt, its stack, a line of verdicts a lane, and the key of its replies in the browser."""

    prompt: str
    stack: str
    lanes: tuple[tuple[str, str], ...]
    key: str = ""


def row(view: View, titles: Mapping[str, str] = MappingProxyType({})) -> PastRun:
    """The row of a finished or stopped run; `titles` of patches by name, a patch without one is called by its name."""
    prompt = f"Turn {len(view.turns) + 1}: " * bool(view.turns) + " ".join(view.prompt.text.split())
    prompt = prompt if len(prompt) <= SHOWN else prompt[: SHOWN - 1] + "…"
    stacks = [stack_words(view, titles), *(f"{copy.lane_words(lane).title}: {label}" for lane, label in view.labels.items())]
    return PastRun(prompt, "; ".join(stacks), tuple((lane.name, _lane(lane, view)) for lane in view.lanes))


def stack_words(view: View, titles: Mapping[str, str] = MappingProxyType({})) -> str:
    """The stack as the visitor set it: 'no patch' or its patches, strengths and mode."""
    if not view.patched:
        return "no patch"
    skipped = ", ".join(titles.get(name, name) for name in view.skipped_by_gate)
    off = f" (off by their gates: {skipped})" if skipped else ""
    return copy.JOINED[view.mode].join(f"{titles.get(name, name)} {strength:g}" for name, strength in view.patches) + off


def _lane(lane: LaneView, view: View) -> str:
    """The chips of one reply, or of several how many were flagged by each claim."""
    written = [reply for reply in lane.replies if reply.text.strip()]
    if not written:
        return "nothing written"
    if len(written) == 1:
        return " · ".join(words for words, _ in chips(written[0], view))
    counts = [f"{unknown} of {len(written)} not judged"] if (unknown := sum(
        not all(score.known for score in reply.scores.values()) for reply in written)) else []
    for scorer, word in (("toxicity", "toxic"), ("refusal", "refused")):
        flagged = sum(reply.scores[scorer].flagged for reply in written if scorer in reply.scores)
        counts.append(f"{flagged} of {len(written)} {word}")
    return " · ".join(counts)


def added(rows: Sequence[PastRun], new: PastRun) -> list[PastRun]:
    """The rows with the newest first, the oldest dropped when there are too many."""
    return [new, *rows][:KEPT]


def table(rows: Sequence[PastRun]) -> str:
    """The rows as an HTML table; on a narrow screen each row is a card whose cells say their column themselves."""
    if not rows:
        return f'<p class="idle">{copy.HISTORY_EMPTY}</p>'
    lanes = list(dict.fromkeys(name for each in rows for name, _ in each.lanes))
    head = "".join(f'<th scope="col">{escaped(title)}</th>'
                   for title in ("Prompt", "Patches", *(copy.lane_words(lane).title for lane in lanes), share_words.RECALL_HEAD))
    body = "".join(
        f'<tr><th scope="row" dir="auto">{escaped(each.prompt)}</th>{_cell("Patches", each.stack)}'
        + "".join(_cell(copy.lane_words(lane).title, dict(each.lanes).get(lane, "")) for lane in lanes) + f"{_recall(each)}</tr>"
        for each in rows
    )
    return (
        f'<div class="history-scroll" tabindex="0" role="region" aria-label="{copy.HISTORY_TITLE}">'
        f'<table class="history"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cell(column: str, words: str) -> str:
    return f'<td data-column="{escaped(column)}">{escaped(words)}</td>'


def _recall(each: PastRun) -> str:
    """The cell with the button that shows a run again."""
    button = (f'<button type="button" class="recall" data-key="{escaped(each.key)}" aria-label="'
              f'{escaped(share_words.RECALL_LONG.format(prompt=each.prompt))}">{share_words.RECALL}</button>') if each.key else ""
    return f'<td class="recall-cell">{button}</td>'
