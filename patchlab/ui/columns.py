"""One column of the comparison as HTML: heading, verdicts, notice, text and how it ended. All text is escaped."""

from __future__ import annotations

from collections.abc import Sequence

from patchlab.records import Score
from patchlab.scoring.bias import first_pronoun
from patchlab.ui import copy
from patchlab.ui.charts import stroke, style
from patchlab.ui.diff import escaped, marked
from patchlab.ui.session import Lane, Text, View

GIVEN_SHOWN = 240  # characters of a prompt repeated before its continuation
STOPS = {"end": "finished", "length": "cut at the longest length", "cancelled": "stopped by you", "error": "failed"}
# what counts as good news depends on what was asked; without a known domain a refusal is neither
_REFUSAL_TONE = {"refusal": {True: "good", False: "bad"}, "everyday": {True: "bad", False: "good"}}


def tone(score: Score, domain: str) -> str:
    """'good', 'bad' or 'plain': the colour beside a verdict's words."""
    if score.scorer == "toxicity":
        return "bad" if score.flagged else "good"
    return _REFUSAL_TONE.get(domain, {}).get(score.flagged, "plain")


def verdicts(text: Text, domain: str) -> list[tuple[str, str]]:
    """(words, tone) of every verdict on a text, the one that its prompt's domain is about first."""
    if not text.text.strip():
        return []
    found = [(score.scorer, copy.verdict(score), tone(score, domain)) for score in text.scores.values()]
    if domain == "bias":
        pronoun = first_pronoun(text.text)
        found.append(("bias", f"Says “{pronoun}”" if pronoun else "No pronoun", "plain"))
    first = {"everyday": "refusal"}.get(domain, domain)
    found.sort(key=lambda each: each[0] != first)
    return [(words, colour) for _, words, colour in found]


def empty(lane: str, index: int) -> str:
    """A column before any run."""
    return _column(lane, index, copy.lane_words(lane).about, f'<p class="idle">{copy.IDLE}</p>', busy=False)


def column(view: View, index: int, domain: str) -> str:
    """The column of lane `index` of a view."""
    lane = view.lanes[index]
    about = copy.lane_words(lane.name).about
    if lane.name == "patched" and not view.patched:
        about = copy.EQUALS_BASE
    elif lane.name == "patched" and view.let_through:
        about = copy.LET_THROUGH.format(names=", ".join(view.let_through))
    base = next((other for other in view.lanes if other.name == "base"), None)
    body = "".join(
        _reply(view, lane, number, base if lane.name == "patched" else None, domain)
        for number in range(len(lane.texts))
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


def _reply(view: View, lane: Lane, number: int, base: Lane | None, domain: str) -> str:
    """One reply of a column; with `base`, words that differ from its text are marked."""
    text = lane.texts[number]
    several = len(lane.texts) > 1
    heading = f'<h4>Reply {number + 1}</h4>' if several else ""
    pills = "".join(f'<li class="pill {colour}">{escaped(words)}</li>' for words, colour in verdicts(text, domain))
    toxic = text.scores.get("toxicity")
    warned = f'<p class="notice">{copy.TOXIC_NOTICE}</p>' if toxic and toxic.flagged and text.text.strip() else ""
    body = marked(_words(view, base.texts[number]), _words(view, text)) if base else escaped(_words(view, text))
    if not text.text.strip():
        waiting = copy.STOPPED_EARLY if text.stop == "cancelled" else "…" if view.running else "(an empty reply)"
        body = f'<span class="idle">{waiting}</span>'
    return (
        f'<article class="reply">{heading}<ul class="pills" aria-label="Verdicts">{pills}</ul>{warned}'
        f'<p class="text" dir="auto">{_given(view)}{body}</p><p class="end">{_ending(text)}</p></article>'
    )


def _words(view: View, text: Text) -> str:
    """A text as shown: a continuation keeps the space that joins it to its prompt, an answer has none."""
    return text.text if view.prompt.kind == "continue" else text.text.lstrip()


def _given(view: View) -> str:
    """The end of the prompt, greyed, where the reply writes on from it."""
    if view.prompt.kind != "continue":
        return ""
    shown = view.prompt.text.strip()
    shown = shown if len(shown) <= GIVEN_SHOWN else "…" + shown[-GIVEN_SHOWN:]
    return f'<span class="given">{escaped(shown)}</span>'


def _ending(text: Text) -> str:
    counted = f"{text.tokens} token{'' if text.tokens == 1 else 's'}"
    return f"{counted}, {STOPS[text.stop]}" if text.stop else f"{counted}, writing"
