"""Results files: where they lie, and the one function that writes them with what their figures were made of.

    write_results(out, {"figures": [...]}, command="quality.pocket", prompts=held_out(300), n=300, seed=0)

Every file names the commit, the date, the command, the prompts by split and digest, the judges by digest, n, the seed and the
machine. What does not apply is "none"; what an older file did not record says so.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from patchlab.evaluation.evaluate import digest_of
from patchlab.evaluation.metrics import METRICS, Counted
from patchlab.evaluation.suites import FOLDER, read_prompts
from patchlab.records import Prompt
from patchlab.scoring import load_scorer
from patchlab.storage import write_json

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
JUDGES = ("toxicity", "refusal", "first pronoun")
FACTS = ("command", "commit", "date", "split", "judges", "n", "seed", "machine")  # what every file says, even if not recorded
NOT_RECORDED = "not recorded"
HELD = ("toxicity", "bias", "harmful", "benign", "lookalike")  # files of held-out prompts

Prompts = Mapping[str, Sequence[Prompt]]


def write_results(out: Path, found: Mapping[str, Any], *, command: str, prompts: Prompts | None = None, split: str = "held",
                  judges: Sequence[str] = JUDGES, n: int | str = "none", seed: int | str = "none", device: str = "cpu",
                  libraries: Sequence[str] = ()) -> None:
    """Write what a benchmark found with what it was made of; without `prompts` no judge was asked."""
    made = {"command": f"python -m benchmarks.{command}", "commit": commit(), "date": datetime.now(UTC).date().isoformat(),
            "split": split_of(split, prompts) if prompts else "none",
            "judges": {name: judge_digest(name) for name in judges} if prompts else "none",
            "n": n, "seed": seed, "machine": machine(device) | {name: version(name) for name in libraries}}
    write_json(out, {"made_with": made, **found})


def split_of(name: str, prompts: Prompts) -> dict[str, Any]:
    """A split as results name it: how many prompts, and the sha256 of them all in order."""
    listed = [prompt for each in prompts.values() for prompt in each]
    return {"name": name, "prompts": len(listed), "digest": digest_of(listed)}


def held_out(n: int, folder: Path = FOLDER / "pocket", *, visitors: bool = False) -> dict[str, list[Prompt]]:
    """The first `n` held-out prompts of each file, and with `visitors` those in visitors' own words."""
    found = {name: read_prompts(folder / f"{name}.jsonl")[:n] for name in HELD}
    return found | ({"visitors": read_prompts(FOLDER / "visitors.jsonl")} if visitors else {})


def judge_digest(name: str) -> str:
    """The identity of a scorer, or of the code that counts."""
    counting = {how.scorer: how.digest for how in METRICS.values() if isinstance(how, Counted)}
    return counting[name] if name in counting else load_scorer(name).digest


@cache
def commit() -> str:
    """The commit that is checked out, and whether files outside the results differ from it."""
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results", ":!docs", ":!README.md")
        return git("rev-parse", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return NOT_RECORDED


def machine(device: str = "cpu") -> dict[str, Any]:
    """The processor, its threads, and the versions of the libraries."""
    found = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(),
             "threads": torch.get_num_threads(), "python": platform.python_version(),
             **{name: version(name) for name in ("torch", "transformers", "peft")}}
    if torch.device(device).type == "cuda":
        found |= {"device": torch.cuda.get_device_name(), "memory": torch.cuda.get_device_properties(0).total_memory}
    return found
