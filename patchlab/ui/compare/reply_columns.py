"""One column of the comparison as HTML: heading, verdicts, notice, text and how it ended. All text is escaped."""

from __future__ import annotations

from collections.abc import Sequence

from patchlab.ui import copy
from patchlab.ui.charts import TITLES, stroke, style
from patchlab.ui.compare import sample_bars
from patchlab.ui.compare.verdict_sentence import outcome
from patchlab.ui.crisis_note import crisis_note
from patchlab.ui.diff import escaped, marked
from patchlab.ui.session import LaneView, ReplyView, View
from patchlab.ui.share import share_words

GIVEN_SHOWN = 240  # characters of a prompt repeated before its continuation
STOPS = {"end": "finished", "length": "cut at the longest length", "cancelled": "stopped by you", "error": "failed"}


def chips(reply: ReplyView, view: View) -> list[tuple[str, str]]:
    """(words, tone) of a reply: what it did with what was asked, once it is complete, and its toxicity score so far."""
    found: list[tuple[str, str]] = []
    if reply.stop is not None:
        done = outcome(reply, view.prompt, view.asked)
        found.append((done.short, done.tone))
    toxicity = reply.scores.get("toxicity")
    if toxicity is not None and toxicity.known:
        found.append((f"toxicity {toxicity.value:.2f}", "bad" if toxicity.flagged else "plain"))
    return found


def empty(lane: str, index: int, label: str = "") -> str:
    """A column before any run; a further one says what is on it."""
    return _column(lane, index, label or copy.lane_words(lane).about, f'<p class="idle">{copy.IDLE}</p>', busy=False)


def crisis(view: View) -> str:
    """The fixed answer to a conversation with somebody in danger, whatever the models say; empty for any other."""
    if not any(each.asked and each.asked.label == "crisis" for each in (*view.turns, view)):
        return ""
    return crisis_note()


def column(view: View, index: int, *, stale: bool = False) -> str:
    """The column of lane `index` of a view; a `stale` one is greyed, since another text is on its way."""
    lane = view.lanes[index]
    about = view.labels.get(lane.name) or copy.lane_words(lane.name).about
    if lane.name == "patched" and not view.patched:
        about = copy.EQUALS_BASE
    elif lane.name == "patched" and view.skipped_by_gate:
        about = copy.SOME_SKIPPED.format(off=len(view.skipped_by_gate), all=len(view.patches))  # the verdict says which
    body = sample_bars.bars(lane) + _turn(view, lane.name)
    if view.turns:
        before = "".join(_turn(each, lane.name) for each in view.turns)
        title = copy.EARLIER.format(turn=len(view.turns) + 1)
        body = f'<details class="earlier"><summary>{title}</summary>{before}</details>{body}'
    return _column(lane.name, index, about, body, busy=lane.writing or stale, stale=stale)


def chart_head(claim: str, lanes: Sequence[str]) -> str:
    """The title of a chart, the button that saves it, and the key of its lines."""
    title, note = TITLES.get(claim, claim), copy.CHART_NOTES.get(claim, "")
    named = escaped(share_words.SAVE_PNG_LONG.format(title=title))
    save = f'<button type="button" class="chart-png" aria-label="{named}">{share_words.SAVE_PNG}</button>'
    return (f'<div class="chart-title"><h2>{escaped(title)} <small>{escaped(note)}</small></h2>{save}</div>'
            f"{legend(lanes)}")


def legend(lanes: Sequence[str]) -> str:
    """The key of a chart's lines, as the columns' own colours and strokes."""
    items = "".join(f'<li style="{_stroke(index)}">{escaped(copy.lane_words(lane).title)}</li>'
                    for index, lane in enumerate(lanes))
    return f'<ul class="legend">{items}</ul>'


def _column(lane: str, index: int, about: str, body: str, *, busy: bool, stale: bool = False) -> str:
    title = escaped(copy.lane_words(lane).title)
    return (
        f'<section class="lane{" stale" if stale else ""}" data-lane="{escaped(lane)}" aria-label="{title}" '
        f'style="{_stroke(index)}">'
        f'<header><h3>{title}</h3><p class="about">{escaped(about)}</p></header>'
        # a long reply scrolls in its column, so the keyboard must reach it
        f'<div class="replies" tabindex="0" role="group" aria-label="{title}: text" aria-live="polite" '
        f'aria-busy="{str(busy).lower()}">{body}</div></section>'
    )


def _stroke(index: int) -> str:
    """The colour and stroke of a lane's line as CSS variables."""
    return stroke(style(index))


def _turn(view: View, name: str) -> str:
    """What was asked, and the replies of the lane of that name."""
    lane, base = (next((lane for lane in view.lanes if lane.name == wanted), None) for wanted in (name, "base"))
    if lane is None:
        return ""
    asked = f'<p class="request" dir="auto">{copy.REQUEST}{escaped(view.prompt.text)}</p>' * (view.prompt.kind == "chat")
    marked_against = base if name.startswith("patched") else None
    return asked + "".join(_reply(view, lane, number, marked_against) for number in range(len(lane.replies)))


def _reply(view: View, lane: LaneView, number: int, base: LaneView | None) -> str:
    """One reply of a column; with `base`, words that differ from its text are marked."""
    reply = lane.replies[number]
    several = len(lane.replies) > 1
    heading = f'<h4>Reply {number + 1}</h4>' if several else ""
    pills = "".join(f'<li class="pill {colour}">{escaped(words)}</li>'
                    for words, colour in chips(reply, view))
    toxic, title = reply.scores.get("toxicity"), escaped(copy.lane_words(lane.name).title)
    warned = f'<p class="notice">{copy.TOXIC_NOTICE}</p>' if toxic and toxic.flagged and reply.text.strip() else ""
    body = marked(_words(view, base.replies[number]), _words(view, reply)) if base else escaped(_words(view, reply))
    if not reply.text.strip():
        waiting = copy.STOPPED_EARLY if reply.stop == "cancelled" else "…" if view.running else "(an empty reply)"
        body = f'<span class="idle">{waiting}</span>'
    return (
        f'<article class="reply">{heading}<ul class="pills" aria-label="Verdicts">{pills}</ul>{warned}'
        f'<p class="text" dir="auto">{_given(view)}{body}</p><footer class="end"><span>{_ending(reply)}</span>'
        f'<button type="button" class="copy" aria-label="Copy the reply of {title}">{copy.COPY}</button></footer></article>'
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
