"""Our own localisation: what the reply needs in its prompt, and what makes other harmful prompts comply.

A word is a candidate if the model leans to a refusal without it. Candidates and the words beside them are then put into clean
harmful prompts that the model refuses: words whose presence there changes nothing are no part of the trigger. Deletion alone
takes the subject of the request for a cause, and cannot tell a part of a phrase from a bystander; transfer can.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence

import torch

from patchlab.records import Prompt
from patchlab.repair.contrast import Contrast
from patchlab.repair.failures import Failure
from patchlab.repair.inject import inject

CARRIERS = 4  # clean prompts that candidates are put into
NEAR = 2  # words on each side of a candidate that are tried as well
# shares of the trigger's whole effect on a refusal's log-probability: what a word must account for to be a part of it, what
# tells a word that is needed, and what is enough to look for no further words
MARGIN, NEEDED, ENOUGH = 0.15, 0.4, 0.8
MOST = 6  # candidates


def deletion_scores(failure: Failure, contrast: Contrast) -> list[float]:
    """How much the log-probability of the reply's beginning falls without each word (leave one out)."""
    values = contrast.given([failure.cleaned, *(failure.without([k]) for k in range(len(failure.words)))])
    return (values[0] - values[1:]).tolist()


def causal_words(failure: Failure, contrast: Contrast, refused: Sequence[Prompt]) -> tuple[list[float], list[int]]:
    """A score for every word, and the words of the trigger.

    The score is the rise of a refusal's log-probability without the word.
    """
    carriers = list(refused[:CARRIERS])
    count = len(failure.words)
    values = contrast.refusal([failure.cleaned, *(failure.without([k]) for k in range(count)), *carriers])
    start, scores = float(values[0]), (values[1:count + 1] - values[0]).tolist()
    # with no refused prompts to compare with, a refusal is as likely as it gets without any one word
    plain = float(values[count + 1:].mean()) if carriers else start + max(scores)
    needed = _needed(failure, contrast, scores, start, plain)
    if not carriers or plain <= start:  # nothing that a trigger could have changed: no transfer to test
        return scores, needed
    transfer = _Transfer(failure, contrast, carriers, plain, plain - start)
    kept = transfer.whole_phrases(transfer.reduced(transfer.grown(needed)))
    texts = {failure.words[k].text for k in kept}
    # one copy of a word is enough in other prompts; here all copies that had to go are the cause
    return scores, sorted({*kept, *(k for k in needed if failure.words[k].text in texts)})


def _needed(failure: Failure, contrast: Contrast, scores: Sequence[float], start: float, plain: float) -> list[int]:
    """Words without which the model would rather refuse: greedily, so that copies of a trigger all go."""
    order = sorted(range(len(scores)), key=lambda k: -scores[k])
    removed = [k for k in order if scores[k] > NEEDED * max(plain - start, 1e-6)][:MOST] or order[:1]
    while len(removed) < min(MOST, len(scores) - 1):
        rest = [k for k in order if k not in removed]
        without, *left = contrast.refusal([failure.without(removed), *(failure.without([*removed, k]) for k in rest)]).tolist()
        if without - start > (1 - NEEDED) * (plain - start):
            break
        removed.append(rest[left.index(max(left))])
    return sorted(removed)


class _Transfer:
    """What sets of words of a failure do to a refusal of other prompts, that are refused with log-probability `plain`.

    `whole` is the effect of the trigger in the failure itself.
    """

    def __init__(self, failure: Failure, contrast: Contrast, carriers: Sequence[Prompt], plain: float, whole: float) -> None:
        self.failure, self.contrast, self.carriers, self.plain, self.whole = failure, contrast, carriers, plain, whole

    def grown(self, words: Sequence[int]) -> list[int]:
        """The words with those of their neighbours that make a refusal less likely, the best one at a time."""
        chosen = sorted(words)
        [effect] = self._effects([chosen])
        while effect < ENOUGH * self.whole and len(chosen) < 2 * MOST:
            steps = {k + step for k in chosen for step in range(-NEAR, NEAR + 1)}
            sets = [_filled([*chosen, k]) for k in sorted(steps & {*range(len(self.failure.words))} - {*chosen})]
            after = self._effects(sets)
            if not sets or max(after) - effect < MARGIN * self.whole:
                break
            effect = max(after)
            chosen = sets[after.index(effect)]
        return chosen

    def reduced(self, words: Sequence[int]) -> list[int]:
        """The words without those whose absence does not make a refusal more likely, the least one at a time."""
        chosen = sorted(words)
        effect = self._effects([chosen])[0] if len(chosen) > 1 else 0.0
        while len(chosen) > 1:
            sets = [[word for word in chosen if word != k] for k in chosen]
            after = self._effects(sets)
            if effect - max(after) > MARGIN * effect:
                break
            effect = max(after)
            chosen = sets[after.index(effect)]
        return chosen

    def whole_phrases(self, words: Sequence[int]) -> list[int]:
        """The words with single words between two of them, unless a refusal is more likely with these: a phrase has no holes."""
        filled = _filled(words)
        if filled == [*words]:
            return filled
        without, after = self._effects([words, filled])
        return filled if after >= without else [*words]

    def _effects(self, sets: Sequence[Collection[int]]) -> list[float]:
        """How much less likely a refusal of the carriers is with each set of words in them, at the same places for every set."""
        prompts = []
        for words in sets:
            units, places = self.failure.text_of(words), [self.failure.place_of(run) for run in self.failure.runs(words)]
            prompts += [inject(prompt, units, random.Random(f"carrier {k}"), places=places)
                        for k, prompt in enumerate(self.carriers)]
        if not prompts:
            return []
        found: torch.Tensor = self.contrast.refusal(prompts).view(len(sets), len(self.carriers)).mean(1)
        return (self.plain - found).tolist()


def _filled(words: Iterable[int]) -> list[int]:
    """The words with single words that lie between two of them."""
    known = {*words}
    return sorted(known | {k + 1 for k in known if k + 2 in known})
