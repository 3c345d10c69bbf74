"""The sentences that say where a reply leaves the unpatched model's path."""

from __future__ import annotations

import math
from collections.abc import Sequence

from patchlab.evaluation.reply_path import NextToken, ReplyPath, ReplyToken
from patchlab.ui import copy
from patchlab.ui.session import View

TITLE = "Why did it change?"
LANE_LABEL, EXPLAIN = "Reply to explain", "Explain"
IDLE = ("Press “Explain” after a run to see, token by token, where the reply leaves the path that the unpatched model would have "
        "taken. It reads the reply twice, so it is computed only when you ask.")
READING = "Both models are reading the reply…"
NO_RUN = "There is no finished run to explain yet. Run a prompt first."
BUSY = "The run is not finished. Wait for its end, or press Stop."
CHANGED = ("patches or gates that are not those of this run", "the ones it was written with", "run the prompt again")
FAILED_REPLY = ("a reply that failed", "a finished or a stopped one", "run the prompt again")
NOTHING, NO_PATCH = "Nothing changed.", "No patch was on, so this column is the unpatched model itself."
ALL_SKIPPED = "Every patch was left off for this prompt, as its gate decided, so this column is the unpatched model itself."

FORK = ("The first {kind} that the unpatched model would not have chosen is “{token}”, {place}: the {lane} model gave it a "
        "probability of {on}, the unpatched model {off}. {other}")
END_FORK = ("The reply first leaves the unpatched model's path where it ends, {place}: the {lane} model gave the end a "
            "probability of {on}, the unpatched model {off}. {other}")
OTHER = "The unpatched model would most likely have said “{token}” ({chance})."
OTHER_END = "The unpatched model would most likely have ended its reply there ({chance})."
CHANCE = ("Before that, “{token}” is not the unpatched model's first choice either, but the {lane} model did not make it twice "
          "as likely ({on}, unpatched {off}): it may have been drawn by chance.")
ONLY_CHANCE = ("No token of this reply is both another one than the unpatched model's first choice and at least twice as likely "
               "in the {lane} model. The first that differs from that choice is “{token}”, {place} ({lane} {on}, unpatched "
               "{off}): it may have been drawn by chance.")
MOST = "The two models differ most {place}, where “{token}” was written ({lane} {on}, unpatched {off})."
SAME = ("At every place of this reply the unpatched model would most likely have chosen the same, so the {lane} model wrote what "
        "the unpatched model finds likeliest.")
START, AFTER = "at the very beginning", "after “{words}”"
WORD, PART = "word", "part of a word"
END, PIECE_OF_CHARACTER, SPACE, BREAK = "end of the reply", "part of a character", "space", "line break"

STRIP_TITLE = "The reply, token by token"
LIKELIER_KEY, RARER_KEY, FORK_KEY = "likelier in {lane}", "less likely in {lane}", "first fork"
STRIP_NOTE = "The stronger the shade, the larger the ratio of the two probabilities; full at 20 times."
TOKEN_TITLE = "{lane} {on}, unpatched {off}: {ratio}"
FORKS_TITLE = "What each model would have chosen"
FORKS_NOTE = ("The places where the two models differ most, and where the reply first leaves the unpatched model's path. At each "
              "both models have read everything before it.")
FORKS_HEAD = ("Place", "Written", "{lane} would choose", "Unpatched would choose")
ALL_TITLE, ALL_HEAD = "Every token with its probabilities", ("Token", "{lane}", "Unpatched", "Ratio")
FIRST_FORK = "first fork"
TOXIC_BASE = "The unpatched reply was scored toxic, so words that the unpatched model would choose may be insults"
NO_ALTERNATIVES = "The two models do not differ by more than 1 % at any place."

OWN = "Probabilities are the models' own, before temperature and the cut of the least likely tokens."
TALK = "Both models read the conversation of this column, with its own earlier replies; only the newest reply is explained."
FIRST_OF = "Of {count} replies the first is explained."
CUT = "The reply was cut at the longest length, so its end is not part of this."
STOPPED = "You stopped the reply, so only the text so far is explained."
RESPLIT = ("The text was split into tokens again, into {count} where {written} were written, so single probabilities may differ "
           "from those of the run.")


def chance(value: float) -> str:
    """A probability with as many digits as say something."""
    if value < 0.001:
        return "under 0.001"
    if value >= 0.9995:
        return "over 0.999"
    return f"{value:.3f}" if value < 0.1 or value > 0.99 else f"{value:.2f}"


def chances(token: ReplyToken) -> tuple[str, str]:
    """The probabilities of a token in the lane and in the base."""
    return chance(math.exp(token.lane)), chance(math.exp(token.base))


def ratio(token: ReplyToken) -> str:
    """How much likelier the lane made a token."""
    times = math.exp(min(abs(token.log_ratio), math.log(9999)))
    if times < 1.05:
        return "equally likely"
    many = "over 9,999" if times >= 9998 else f"{times:,.0f}" if times >= 10 else f"{times:.1f}"
    return f"{many} times {'likelier' if token.log_ratio > 0 else 'less likely'}"


def shown(token: ReplyToken | NextToken) -> str:
    """A token as it is written in a sentence or a table."""
    if token.ends:
        return END
    if not token.text:
        return PIECE_OF_CHARACTER
    if not token.text.strip():
        return BREAK if "\n" in token.text else SPACE
    return token.text.strip()


def sentences(path: ReplyPath, lane: str) -> list[str]:
    """Where the reply leaves the unpatched model's path, and how; `lane` is the title of its column."""
    lane = lane.lower()
    if path.other is None:
        return [SAME.format(lane=lane)]
    if path.fork is None:
        return [_told(ONLY_CHANCE, path, path.other, lane)]
    said = [_told(END_FORK if path.tokens[path.fork].ends else FORK, path, path.fork, lane)]
    most = max(path.alternatives, key=lambda each: path.tokens[each.place].apart).place
    more = [(MOST, most)] * (most != path.fork) + [(CHANCE, path.other)] * (path.other < path.fork)
    return said + [_told(words, path, place, lane) for words, place in more]


def _told(words: str, path: ReplyPath, place: int, lane: str) -> str:
    token, first, (on, off) = path.tokens[place], path.at(place).base[0], chances(path.tokens[place])
    other = (OTHER_END if first.ends else OTHER).format(token=shown(first), chance=chance(first.probability))
    return words.format(kind=kind(path.tokens, place), token=shown(token), place=where(path.tokens, place), lane=lane, on=on,
                        off=off, other=other)


def kind(tokens: Sequence[ReplyToken], place: int) -> str:
    """Whether a token is a whole word."""
    text, following = tokens[place].text, tokens[place + 1].text if place + 1 < len(tokens) else ""
    before = tokens[place - 1].text if place else ""
    joined = ((before, text), (text, following))
    return PART if any(left[-1:].isalnum() and right[:1].isalnum() for left, right in joined) else WORD


def where(tokens: Sequence[ReplyToken], place: int) -> str:
    """The last words before a place."""
    words = "".join(each.text for each in tokens[:place]).split()
    return AFTER.format(words=" ".join(["…"] * (len(words) > 4) + words[-4:])) if words else START


def notes(path: ReplyPath, view: View, lane: str) -> list[str]:
    """What there is to know about these numbers."""
    replies = next(each.replies for each in view.lanes if each.name == lane)
    said = [OWN]
    if view.turns:
        said.append(TALK)
    if len(replies) > 1:
        said.append(FIRST_OF.format(count=len(replies)))
    if lane == "patched" and view.skipped_by_gate:
        said.append(copy.SKIPPED_BY_GATE.format(names=", ".join(view.skipped_by_gate)))
    said += {"length": [CUT], "cancelled": [STOPPED]}.get(str(replies[0].stop), [])
    if path.resplit:
        count = len([token for token in path.tokens if not token.ends])
        said.append(RESPLIT.format(count=count, written=replies[0].tokens))
    return said
