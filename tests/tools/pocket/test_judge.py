"""Evaluation of the pocket models: a lane's rates are those of its replies, in the order of the prompts."""

from __future__ import annotations

from patchlab.engine import Sampling, load
from patchlab.evaluation.suites import FOLDER, read_prompts
from patchlab.patches import Stack
from patchlab.records import Progress, Reply
from tools.pocket.judge import RATES, rates


def test_rates_are_those_of_the_replies() -> None:
    lab, stack = load("pocket", device="cpu"), Stack.parse("bias,refusal", mode="sequential", gates=True)
    how, kept = Sampling(seed=0, max_new_tokens=6), dict[str, list[Reply]]()
    steps, seen = rates(lab, stack, "patched", "x", FOLDER / "pocket", 3, how, kept, ("bias", "harmful")), list[Progress]()
    try:
        while True:
            seen.append(next(steps))
    except StopIteration as end:
        values = end.value
    assert (seen[-1].done, seen[-1].total) == (3, 3) and len(seen) == 3 * 4 + 3
    for domain, (metric, samples) in RATES.items():
        if domain not in ("bias", "harmful"):
            continue
        prompts = read_prompts(FOLDER / "pocket" / f"{domain}.jsonl")[:3]
        replies = lab.replies(prompts, stack=stack, lanes=["patched"], samples=samples, sampling=how)
        assert kept[f"x {domain}"] == replies and values["x", domain] == metric(replies)
