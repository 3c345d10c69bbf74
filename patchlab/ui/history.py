"""The list of this visit's runs: rows of words and numbers, and their table. Kept by the page, gone when it closes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from patchlab.scoring.prompt_judge import PromptScore
from patchlab.ui import copy
from patchlab.ui.diff import escaped
from patchlab.ui.reply_columns import verdicts
from patchlab.ui.session import LaneView, View

SHOWN, KEPT = 90, 50  # characters of a prompt; rows


@dataclass(frozen=True, slots=True)
class PastRun:
    """One run: its prompt, its stack, and a line of verdicts a lane. No reply is kept."""

    prompt: str
    stack: str
    lanes: tuple[tuple[str, str], ...]


def row(view: View, domain: str) -> PastRun:
    """The row of a finished or stopped run."""
    prompt = " ".join(view.prompt.text.split())
    prompt = prompt if len(prompt) <= SHOWN else prompt[: SHOWN - 1] + "…"
    return PastRun(prompt, stack_words(view), tuple(
        (lane.name, _lane(lane, domain, view.asked if view.verdicts else None)) for lane in view.lanes))


def stack_words(view: View) -> str:
    """The stack as the visitor set it: 'no patch' or its names, strengths and mode."""
    if not view.patched:
        return "no patch"
    off = f" (off by their gates: {', '.join(view.skipped_by_gate)})" if view.skipped_by_gate else ""
    return copy.JOINED[view.mode].join(f"{name} {strength:g}" for name, strength in view.patches) + off


def _lane(lane: LaneView, domain: str, asked: PromptScore | None = None) -> str:
    """Verdicts of one reply, or of several how many had the leading verdict flagged."""
    written = [reply for reply in lane.replies if reply.text.strip()]
    if not written:
        return "nothing written"
    if len(written) == 1:
        return " · ".join(words for words, _ in verdicts(written[0], domain, asked))
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
    lanes = [name for name, _ in rows[0].lanes]
    head = "".join(f'<th scope="col">{escaped(title)}</th>'
                   for title in ("Prompt", "Patches", *(copy.lane_words(lane).title for lane in lanes)))
    body = "".join(
        f'<tr><th scope="row" dir="auto">{escaped(each.prompt)}</th>{_cell("Patches", each.stack)}'
        + "".join(_cell(copy.lane_words(lane).title, words) for lane, words in each.lanes) + "</tr>"
        for each in rows
    )
    return (
        '<div class="history-scroll" tabindex="0" role="region" aria-label="Runs of this visit">'
        f'<table class="history"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cell(column: str, words: str) -> str:
    return f'<td data-column="{escaped(column)}">{escaped(words)}</td>'
