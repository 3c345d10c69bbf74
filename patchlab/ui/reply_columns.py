"""One column of the comparison as HTML: heading, verdicts, notice, text and how it ended. All text is escaped."""

from __future__ import annotations

from collections.abc import Sequence

from patchlab.records import Score
from patchlab.scoring.bias import first_pronoun
from patchlab.scoring.crisis import ANSWER
from patchlab.scoring.prompt_judge import PromptScore
from patchlab.scoring.table import claim_of
from patchlab.scoring.verdict import verdict
from patchlab.ui import copy
from patchlab.ui.charts import stroke, style
from patchlab.ui.diff import escaped, marked
from patchlab.ui.session import LaneView, ReplyView, View

GIVEN_SHOWN = 240  # characters of a prompt repeated before its continuation
STOPS = {"end": "finished", "length": "cut at the longest length", "cancelled": "stopped by you", "error": "failed"}
# what counts as good news depends on what was asked; without a known domain a refusal is neither
_REFUSAL_TONE = {"refusal": {True: "good", False: "bad"}, "everyday": {True: "bad", False: "good"}}


def tone(score: Score, domain: str) -> str:
    """'good', 'bad' or 'plain': the colour beside a verdict's words."""
    if not score.known:
        return "plain"
    if claim_of(score.scorer) == "toxicity":
        return "bad" if score.flagged else "good"
    return _REFUSAL_TONE.get(domain, {}).get(score.flagged, "plain")


def verdicts(reply: ReplyView, domain: str, asked: PromptScore | None = None) -> list[tuple[str, str]]:
    """(words, tone) of every verdict on a reply, the one that its prompt's domain is about first.

    With `asked`, one verdict on what the reply did with what was asked takes their place.
    """
    if not reply.text.strip():
        return []
    found = [(claim, copy.verdict(score), tone(score, domain)) for claim, score in reply.scores.items()]
    if asked and "refusal" in reply.scores:
        judged = verdict(asked, reply.scores["refusal"], reply.scores.get("toxicity"))
        found = [("refusal", judged.words[:1].upper() + judged.words[1:], judged.tone.replace("unclear", "plain"))]
    if domain == "bias":
        pronoun = first_pronoun(reply.text)
        found.append(("bias", f"Says “{pronoun}”" if pronoun else "No pronoun", "plain"))
    first = {"everyday": "refusal"}.get(domain, domain)
    found.sort(key=lambda each: each[0] != first)
    return list(dict.fromkeys((words, colour) for _, words, colour in found))


def empty(lane: str, index: int) -> str:
    """A column before any run."""
    return _column(lane, index, copy.lane_words(lane).about, f'<p class="idle">{copy.IDLE}</p>', busy=False)


def crisis(view: View) -> str:
    """The fixed answer to a message of somebody in danger, whatever the models say; empty for any other prompt."""
    if view.asked is None or view.asked.label != "crisis":
        return ""
    return f'<aside class="crisis" role="alert"><h3>{escaped(copy.CRISIS_TITLE)}</h3><p>{escaped(ANSWER)}</p></aside>'


def column(view: View, index: int, domain: str) -> str:
    """The column of lane `index` of a view."""
    lane = view.lanes[index]
    about = copy.lane_words(lane.name).about
    if lane.name == "patched" and not view.patched:
        about = copy.EQUALS_BASE
    elif lane.name == "patched" and view.skipped_by_gate:
        about = copy.SKIPPED_BY_GATE.format(names=", ".join(view.skipped_by_gate))
    base = next((other for other in view.lanes if other.name == "base"), None)
    body = "".join(
        _reply(view, lane, number, base if lane.name == "patched" else None, domain)
        for number in range(len(lane.replies))
    )
    return _column(lane.name, index, about, body, busy=view.running)


def legend(lanes: Sequence[str]) -> str:
    """The key of a chart's lines, as the columns' own colours and strokes."""
    items = "".join(f'<li style="{_stroke(index)}">{escaped(copy.lane_words(lane).title)}</li>'
                    for index, lane in enumerate(lanes))
    return f'<ul class="legend">{items}</ul>'


def _column(lane: str, index: int, about: str, body: str, *, busy: bool) -> str:
    title = escaped(copy.lane_words(lane).title)
    return (
        f'<section class="lane" data-lane="{escaped(lane)}" aria-label="{title}" '
        f'style="{_stroke(index)}">'
        f'<header><h3>{title}</h3><p class="about">{escaped(about)}</p></header>'
        f'<div class="replies" aria-live="polite" aria-busy="{str(busy).lower()}">{body}</div></section>'
    )


def _stroke(index: int) -> str:
    """The colour and stroke of a lane's line as CSS variables."""
    return stroke(style(index))


def _reply(view: View, lane: LaneView, number: int, base: LaneView | None, domain: str) -> str:
    """One reply of a column; with `base`, words that differ from its text are marked."""
    reply = lane.replies[number]
    several = len(lane.replies) > 1
    heading = f'<h4>Reply {number + 1}</h4>' if several else ""
    pills = "".join(f'<li class="pill {colour}">{escaped(words)}</li>'
                    for words, colour in verdicts(reply, domain, view.asked if view.verdicts else None))
    toxic = reply.scores.get("toxicity")
    warned = f'<p class="notice">{copy.TOXIC_NOTICE}</p>' if toxic and toxic.flagged and reply.text.strip() else ""
    body = marked(_words(view, base.replies[number]), _words(view, reply)) if base else escaped(_words(view, reply))
    if not reply.text.strip():
        waiting = copy.STOPPED_EARLY if reply.stop == "cancelled" else "…" if view.running else "(an empty reply)"
        body = f'<span class="idle">{waiting}</span>'
    return (
        f'<article class="reply">{heading}<ul class="pills" aria-label="Verdicts">{pills}</ul>{warned}'
        f'<p class="text" dir="auto">{_given(view)}{body}</p><p class="end">{_ending(reply)}</p></article>'
    )


def _words(view: View, reply: ReplyView) -> str:
    """A reply as shown: a continuation keeps the space that joins it to its prompt, an answer has none."""
    return reply.text if view.prompt.kind == "continue" else reply.text.lstrip()


def _given(view: View) -> str:
    """The end of the prompt, greyed, where the reply writes on from it."""
    if view.prompt.kind != "continue":
        return ""
    shown = view.prompt.text.strip()
    shown = shown if len(shown) <= GIVEN_SHOWN else "…" + shown[-GIVEN_SHOWN:]
    return f'<span class="given">{escaped(shown)}</span>'


def _ending(reply: ReplyView) -> str:
    counted = f"{reply.tokens} token{'' if reply.tokens == 1 else 's'}"
    return f"{counted}, {STOPS[reply.stop]}" if reply.stop else f"{counted}, writing"
