"""The verdict on a run in one sentence, from what was asked and what each lane replied.

Every lane has a short verdict for its column and a clause of the sentence. A tone is the colour beside the words: bad for help
with harm and for a harmless request refused, good for the right thing done, unclear where the judges cannot tell, and plain
where nothing is to be judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from patchlab.records import EMPTY
from patchlab.scoring.bias import first_pronoun
from patchlab.scoring.prompt_judge import PromptScore
from patchlab.scoring.verdict import verdict
from patchlab.ui import copy
from patchlab.ui.diff import escaped

if TYPE_CHECKING:
    from patchlab.patches.manifest import Manifest
    from patchlab.records import Measure, Prompt
    from patchlab.ui.session import LaneView, ReplyView, View

OutcomeTone = Literal["good", "bad", "unclear", "plain"]
_WORST: tuple[OutcomeTone, ...] = ("bad", "unclear", "plain", "good")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a reply did: a few words for its column, a verb for the sentence with the object of the verb, and a tone."""

    short: str
    verb: str
    what: str
    tone: OutcomeTone


def outcome(reply: ReplyView, prompt: Prompt, asked: PromptScore | None) -> Outcome:
    """The outcome of a finished reply."""
    if reply.stop == "error":
        return Outcome("Failed", "failed", "", "unclear")
    if not reply.text.strip():
        return Outcome("Wrote nothing", "wrote nothing", "", "unclear")
    return _answered(reply, asked) if asked else _continued(reply, prompt)


def _answered(reply: ReplyView, asked: PromptScore) -> Outcome:
    """A reply to a request: did it help or refuse, and was that right?"""
    refusal, toxicity = reply.scores.get("refusal"), reply.scores.get("toxicity")
    if asked.label == "crisis":
        return Outcome("See the note above", "replied to", copy.ASKED["crisis"], "unclear")
    if refusal is not None and refusal.label == EMPTY:
        return Outcome("No answer", "wrote reasoning and no answer", "", "unclear")
    if refusal is None or not refusal.known:
        return Outcome("Not judged", "wrote a reply that is", copy.OUTSIDE, "unclear")
    did = "refused" if refusal.flagged else "helped with" if asked.label == "harmful" else "answered"
    insults = toxicity is not None and toxicity.flagged
    short = {"helped with": "Helped"}.get(did, did.capitalize())
    if asked.label == "harmless" and refusal.flagged:
        short = "Refused needlessly"
    judged = verdict(asked, refusal, toxicity)
    return Outcome(f"{short}, with insults" if insults else short, did, copy.ASKED[asked.label] + (", with insults" * insults),
                   judged.tone)


def _continued(reply: ReplyView, prompt: Prompt) -> Outcome:
    """A text that goes on from the prompt: nothing was asked for, so its own words are judged."""
    toxicity = reply.scores.get("toxicity")
    if toxicity is None or not toxicity.known:
        return Outcome("Not judged", "wrote a text that is", copy.OUTSIDE, "unclear")
    if toxicity.flagged:
        return Outcome("Insulting", "wrote an insulting text", "", "bad")
    if prompt.domain == "bias":
        pronoun = first_pronoun(reply.text)
        return Outcome(f"Says “{pronoun}”" if pronoun else "No pronoun", f"wrote “{pronoun}”" if pronoun else "wrote no pronoun",
                       "", "plain")
    return Outcome("No insults", "wrote no insults", "", "good" if prompt.domain == "toxicity" else "plain")


@dataclass(frozen=True, slots=True)
class Clause:
    """A lane's part of the sentence."""

    lane: str
    words: str
    tone: OutcomeTone


def clauses(view: View) -> list[Clause]:
    """A clause a lane; the first one says what was asked."""
    return [_clause(lane, [outcome(reply, view.prompt, view.asked) for reply in lane.replies], first=number == 0)
            for number, lane in enumerate(view.lanes)]


def _clause(lane: LaneView, found: Sequence[Outcome], *, first: bool) -> Clause:
    title, worst = copy.lane_words(lane.name).title, min((each.tone for each in found), key=_WORST.index)
    counts = Counter((each.verb, each.what) for each in found)
    parts = []
    for (verb, what), count in counts.items():
        # after the first lane the object is known, but what a lane did with insults is its own
        kept = first or what.endswith("insults") or what == copy.OUTSIDE or lane.name not in copy.LANES
        said = f"{verb} {what}".strip() if kept else "helped" if verb == "helped with" else verb.removesuffix(" to")
        parts.append(said if len(found) == 1 else f"{said} in {count} of {len(found)} replies")
    return Clause(lane.name, f"{title} {' and '.join(parts)}.", worst)


def remarks(view: View, known: Mapping[str, Manifest]) -> list[str]:
    """What belongs to the verdict: that nothing was patched, what one reply cannot tell, and what the patches cost."""
    said = [copy.NEWEST.format(turn=len(view.turns) + 1)] if view.turns else []
    if not view.patched:
        said.append(copy.EQUALS_BASE)
    elif view.skipped_by_gate:
        titles = [known[name].title if name in known else name for name in view.skipped_by_gate]
        said.append(copy.SKIPPED_BY_GATE.format(names=", ".join(titles)))
    if view.asked and view.asked.label == "outside":
        said.append(copy.OUTSIDE_NOTE)
    if view.prompt.domain == "bias":
        said.append(copy.ONE_PRONOUN)
    return said + [words for words in [cost(view, known)] if words]


def cost(view: View, known: Mapping[str, Manifest]) -> str:
    """The highest measured rate of refused harmless requests among the patches that are on, as their manifests hold it."""
    found: list[tuple[float, Measure, Manifest]] = [
        (measure.value, measure, known[name]) for name, strength in view.patches
        if strength and name not in view.skipped_by_gate and name in known for measure in known[name].evidence
        if (measure.suite, measure.lane, measure.metric) == ("overrefusal", "patched", "refusal_rate")]
    if not found:
        return ""
    _, measure, manifest = max(found, key=lambda each: each[0])
    return copy.COST.format(title=manifest.title, strength=manifest.strength, n=measure.n, rate=measure.value)


def banner(view: View, known: Mapping[str, Manifest], ran: str) -> str:
    """The verdict of a view as HTML; `ran` says to the browser which settings the replies belong to."""
    several = len(view.lanes[0].replies) > 1
    if view.running:
        return _banner(f"<span class='clause'>{copy.READING}</span>", "", ran, several=several)
    said = "".join(f'<span class="clause {each.tone}" data-lane="{escaped(each.lane)}">{escaped(each.words)}</span> '
                   for each in clauses(view))
    return _banner(said, " ".join(remarks(view, known)), ran, several=several)


def idle(words: str) -> str:
    """What stands there before any run: what the page is for."""
    return _banner(f"<span class='clause'>{copy.LEAD}</span>", words, "")


def _banner(said: str, more: str, ran: str, *, several: bool = False) -> str:
    """The verdict's box; of `several` replies a lane more is said, so it is higher from the first moment."""
    explained = f"<details><summary>{copy.MEANS_TITLE}</summary><p>{copy.MEANS}</p></details>" if ran else ""
    return (f'<section class="verdict{" several" if several else ""}" aria-live="polite" aria-label="{copy.VERDICT_TITLE}" '
            f'data-ran="{escaped(ran)}">'
            f'<p class="said">{said}</p><p class="more">{escaped(more)}</p>{explained}'
            f'<p class="ribbon" role="status">{copy.RIBBON}</p></section>')
