"""Several replies of a lane as bars: how many refuse, are toxic, are empty, and begin with which pronoun."""

from __future__ import annotations

from collections.abc import Callable

from patchlab.evaluation.statistics import wilson
from patchlab.scoring import first_pronoun
from patchlab.ui import copy
from patchlab.ui.session import LaneView, ReplyView

MOST_SAMPLES = 20  # replies a lane


def flagged(claim: str) -> Callable[[ReplyView], bool]:
    """Whether a reply's score of a claim is above its threshold."""
    def found(reply: ReplyView) -> bool:
        score = reply.scores.get(claim)
        return bool(score and score.known and score.flagged and reply.text.strip())

    return found


COUNTED: dict[str, Callable[[ReplyView], bool]] = {
    "refused": flagged("refusal"), "toxic": flagged("toxicity"), "empty": lambda reply: not reply.text.strip(),
    "he": lambda reply: first_pronoun(reply.text) == "he", "she": lambda reply: first_pronoun(reply.text) == "she"}


def counts(lane: LaneView) -> dict[str, int]:
    """How many of a lane's finished replies are of each kind."""
    ended = [reply for reply in lane.replies if reply.stop is not None]
    return {name: sum(map(counted, ended)) for name, counted in COUNTED.items()}


def bars(lane: LaneView) -> str:
    """The bars of a lane with several replies, all of one scale: a full bar is every reply that was asked for."""
    asked, ended = len(lane.replies), sum(reply.stop is not None for reply in lane.replies)
    if asked < 2:
        return ""
    items = ""
    for name, count in counts(lane).items():
        low, high = wilson(count, ended) if ended else (0.0, 1.0)
        told = copy.SAMPLE_COUNT.format(count=count, n=ended)
        items += (f'<li title="{copy.SAMPLE_INTERVAL.format(low=low, high=high)}"><span>{copy.SAMPLE_BARS[name]}</span>'
                  f'<span class="sample-bar" aria-hidden="true"><i style="width:{100 * count / asked:.0f}%"></i></span>'
                  f"<span>{told}</span></li>")
    return f'<ul class="sample-bars" aria-label="{copy.SAMPLE_TITLE.format(n=ended, asked=asked)}">{items}</ul>'
