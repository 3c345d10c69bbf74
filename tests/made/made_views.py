"""Views made by hand, for tests of what is drawn from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from patchlab.records import Prompt, Score
from patchlab.ui.session import LaneView, ReplyView, View


def score(scorer: str, value: float) -> Score:
    """A verdict of that value with the threshold at one half."""
    return Score(scorer, value, value >= 0.5, "")


def text(words: str, toxicity: float = 0.1, refusal: float = 0.1) -> ReplyView:
    """A finished reply with its two verdicts."""
    return ReplyView(words, len(words.split()), "end",
                {"toxicity": score("toxicity", toxicity), "refusal": score("refusal", refusal)})


def view(texts: Mapping[str, Sequence[ReplyView]], *, kind: str = "chat", patched: bool = True,
         running: bool = False) -> View:
    """A view of these texts a lane, with a line of two points each."""
    lines = {"toxicity": ((1, 0.2), (2, 0.4)), "refusal": ((1, 0.1), (2, 0.0))}
    lanes = tuple(LaneView(name, tuple(each), lines) for name, each in texts.items())
    patches = (("toxicity", 1.0), ("bias", 0.5)) if patched else (("toxicity", 0.0),)
    prompt = Prompt("How do you do?", "chat" if kind == "chat" else "continue")
    return View(prompt, "parallel", patches, lanes, {"toxicity": 0.5, "refusal": 0.5}, running)
