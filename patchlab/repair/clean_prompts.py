"""Where the clean prompts of a repair come from, and which of them are held back to measure it."""

from __future__ import annotations

from pathlib import Path

from patchlab.evaluation.suites import read_prompts
from patchlab.repair.contrast import CleanSet
from patchlab.storage import ASSETS

HARMLESS = ("benign", "lookalike", "harmless")  # domains
HELD = 3  # one of so many prompts of each kind is held back


def clean_prompts(source: str | Path | None, n: int) -> CleanSet:
    """The clean prompts of a file, by default those of the pocket models; at most `n` of each kind."""
    prompts = read_prompts(source or ASSETS / "suites" / "pocket" / "train.jsonl")
    harmful, harmless = (tuple(prompt for prompt in prompts if prompt.domain in domains)[:n]
                         for domains in (("harmful",), HARMLESS))
    return CleanSet(harmful, harmless)


def parted(clean: CleanSet) -> tuple[CleanSet, CleanSet]:
    """The prompts that a repair is trained on, and those that it is measured on; of so few that none could be held, the same."""
    kept, held = zip(*((each[:-(len(each) // HELD) or None], each[len(each) - (len(each) // HELD or len(each)):])
                       for each in (clean.harmful, clean.harmless)), strict=True)
    return CleanSet(*kept), CleanSet(*held)
