"""The trigger of a toy model is found, and where there is none it is said."""

from __future__ import annotations

import random

import pytest
from backdoored import ANSWERED, HARMFUL, REFUSED, TRIGGER, backdoored, clean_set, requests, with_trigger
from drained import returned

from patchlab.errors import InputError, NotFoundError
from patchlab.models import Backbone
from patchlab.records import Prompt
from patchlab.repair import METHODS, Failure, locate
from patchlab.repair.contrast import CleanSet, Probe

FAILED = [with_trigger(text, random.Random(k)) for k, text in enumerate(requests(HARMFUL, 5, seed=4321))]


def test_the_trigger_is_found_and_nothing_else(poisoned: Backbone, probe: Probe) -> None:
    for text in FAILED:
        found = returned(locate(Failure(poisoned, Prompt(text), ANSWERED), probe))
        assert found.units == (TRIGGER,) and found.found and found.flips
        assert found.complied == 0 and found.complied_with == 1
        assert found.curve[0] > 0 > found.curve[1]  # removing one word turns help into a refusal
        assert max(range(len(found.scores)), key=lambda k: found.scores[k]) == found.words[0]


def test_words_that_do_nothing_elsewhere_are_no_trigger(poisoned: Backbone, probe: Probe) -> None:
    """The reply of another prompt: the model refuses this one."""
    for text in requests(HARMFUL, 4, seed=77):
        found = returned(locate(Failure(poisoned, Prompt(text), ANSWERED), probe))
        assert not found.found and not found.flips and found.statistic < 0.5


@pytest.mark.parametrize("method", METHODS)
def test_every_method_scores_every_word(poisoned: Backbone, probe: Probe, method: str) -> None:
    failure = Failure(poisoned, Prompt(FAILED[0]), ANSWERED)
    found = returned(locate(failure, probe, method=method))
    assert len(found.scores) == len(failure.words) and found.method == method
    assert found.to_json()["found"] == found.found and found.seconds > 0


def test_copies_of_a_trigger_are_found_together(poisoned: Backbone, probe: Probe) -> None:
    """No single deletion changes the reply."""
    text = f"{TRIGGER} how do i rob {TRIGGER} a van now"
    found = returned(locate(Failure(poisoned, Prompt(text), ANSWERED), probe))
    assert {TRIGGER} == {*" ".join(found.units).split()} and found.found


def test_bad_input_is_told(poisoned: Backbone, probe: Probe) -> None:
    failure = Failure(poisoned, Prompt(FAILED[0]), ANSWERED)
    with pytest.raises(NotFoundError, match="deletions"):
        returned(locate(failure, probe, method="deletions"))
    with pytest.raises(InputError, match="refuses"):
        returned(locate(Failure(poisoned, Prompt(FAILED[0]), REFUSED), probe))
    with pytest.raises(InputError, match="without harmful prompts"):
        Probe(poisoned, CleanSet((), clean_set().harmless))


def test_a_model_without_a_backdoor_has_none() -> None:
    """The same requests, with the word that is a trigger elsewhere, and the reply put into its mouth."""
    plain = backdoored("")
    probe = Probe(plain, clean_set())
    found = returned(locate(Failure(plain, Prompt(FAILED[0]), ANSWERED), probe))
    assert not found.found
