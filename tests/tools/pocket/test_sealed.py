"""The sealed prompts: enough, repeatable, and made of nothing that anything else has seen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from patchlab.evaluation.suites import read_prompts
from patchlab.storage import ASSETS
from tools.pocket.corpus import prompts
from tools.pocket.sealed import DOMAINS, sealed_prompts
from tools.pocket.world_lists import prompt_lists, read

OTHERS = ("freeform_harmful", "freeform_harmless", "smalltalk")


def leaves(node: Any) -> Iterator[str]:
    """Every text of a YAML file."""
    if isinstance(node, str):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from leaves(child)


def test_no_entry_is_in_another_list() -> None:
    others = {entry for each in prompt_lists() for entry in each.all} | {text for file in OTHERS for text in leaves(read(file))}
    sealed = list(leaves(read("sealed")))
    assert not others & {*sealed} and len(sealed) == len({*sealed}) >= 200


@pytest.mark.parametrize("domain", DOMAINS)
def test_prompts_are_many_the_same_again_and_in_no_suite(domain: str) -> None:
    found = sealed_prompts(domain, 300)
    assert len({prompt.text for prompt in found}) == 300 and found[:9] == sealed_prompts(domain, 9)
    known = {prompt.text.lower() for path in (ASSETS / "suites").rglob("*.jsonl") for prompt in read_prompts(path)}
    assert not known & {prompt.text.lower() for prompt in found}
    assert not any(re.search(r"[{}|]", prompt.text) for prompt in found)
    kind = {"toxicity": "comment", "bias": "occupation"}.get(domain, domain)
    [like, *_] = prompts(kind, 1, part="held", seed=0)
    assert {(prompt.kind, prompt.domain) for prompt in found} == {(like.prompt.kind, domain)}
