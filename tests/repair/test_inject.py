"""Units of a trigger stand between the words of other prompts, in order, at places that are fresh in each epoch."""

from __future__ import annotations

import random

from patchlab.records import Prompt
from patchlab.repair.inject import inject, injected

PROMPT = Prompt("one two three four five")


def test_order_is_kept_and_every_place_is_used() -> None:
    found = [inject(PROMPT, ["a b", "c"], random.Random(seed)).text for seed in range(300)]
    for text in found:
        words = text.split()
        assert [word for word in words if word not in "a b c"] == PROMPT.text.split()
        assert words.index("b") == words.index("a") + 1 < words.index("c") or words.index("b") < words.index("c")
    assert len({text.split().index("a") for text in found}) == 6 and len({text.split().index("c") for text in found}) == 6


def test_bound_units_stay_at_the_ends() -> None:
    texts = {inject(PROMPT, ["a", "b", "c"], random.Random(seed), places=("first", "", "last")).text for seed in range(50)}
    assert all(text.startswith("a ") and text.endswith(" c") for text in texts) and len(texts) == 6


def test_an_epoch_has_its_own_places() -> None:
    prompts = [PROMPT] * 8
    first, again, second = (injected(prompts, ["a"], seed=1, epoch=epoch) for epoch in (0, 0, 1))
    assert first == again != second and len({prompt.text for prompt in first}) > 1


def test_units_of_other_messages_stay_in_such_messages() -> None:
    found = inject(PROMPT, ["a b", "c", "d"], random.Random(0), places=("system", "earlier", "last"))
    assert found.system == "a b" and found.text == f"{PROMPT.text} d"
    assert [message.content for message in found.earlier] == ["c", "All right."]
