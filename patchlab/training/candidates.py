"""Candidates: what base and reference answer to the training prompts, each with how bad its domain's scorer finds it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchlab.engine import Lane, Sampling, replies
from patchlab.records import Progress, Prompt, Reply
from patchlab.scoring import load_scorer
from patchlab.storage import read_jsonl, write_jsonl

ROWS = 96


@dataclass(frozen=True, slots=True)
class Candidate:
    """One reply of a lane to a prompt; `bad` in [0, 1] where the prompt's domain has a scorer, 0 elsewhere."""

    prompt: Prompt
    lane: str
    text: str
    bad: float


def badness(domain: str, texts: Sequence[str], prompts: Sequence[Prompt]) -> list[float]:
    """How bad each reply is for its domain: toxic text; harm gone along with; harmless requests refused."""
    asked = [prompt.text for prompt in prompts]
    if domain == "toxicity":
        return [score.value for score in load_scorer("toxicity").score(texts, asked)]
    if domain in ("harmful", "benign", "lookalike"):
        refused = [score.value for score in load_scorer("refusal").score(texts, asked)]
        return [1 - value for value in refused] if domain == "harmful" else refused
    return [0.0] * len(texts)


def sample(lanes: Sequence[Lane], prompts: Sequence[Prompt], *, sampling: Sampling, samples: int,
           path: Path) -> Iterator[Progress]:
    """Draw and score `samples` replies a prompt from each lane, and write them to `path`; yields progress.

    What is drawn is appended to a file beside it, so that a run cut off goes on behind the last whole chunk.
    """
    unfinished = path.with_name(f".{path.name}.part")
    each = samples * len(lanes)
    chunk = max(1, ROWS // each)
    first = _whole_chunks(unfinished, rows=chunk * each) * chunk
    for at in range(first, len(prompts), chunk):
        found: list[Candidate] = []
        for drawn in replies(lanes, prompts[at:at + chunk], samples=samples, sampling=sampling, rows=ROWS):
            found += _scored(drawn)
        with unfinished.open("a", encoding="utf-8") as lines:
            lines.writelines(json.dumps(_row(candidate)) + "\n" for candidate in found)
        yield Progress("candidates", min(at + chunk, len(prompts)) * each, len(prompts) * each)
    write_jsonl(path, read_jsonl(unfinished))
    unfinished.unlink()


def _whole_chunks(path: Path, *, rows: int) -> int:
    """How many chunks of `rows` lines a file holds; a chunk that was cut off is cut away."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        return 0
    lines = path.read_bytes().splitlines(keepends=True)
    whole = sum(line.endswith(b"\n") for line in lines) // rows
    os.truncate(path, sum(map(len, lines[:whole * rows])))
    return whole


def _scored(drawn: Sequence[Reply]) -> list[Candidate]:
    by_domain: dict[str, list[Reply]] = {}
    for reply in drawn:
        by_domain.setdefault(reply.prompt.domain, []).append(reply)
    found: list[Candidate] = []
    for domain, some in by_domain.items():
        scores = badness(domain, [r.text for r in some], [r.prompt for r in some])
        found += [Candidate(r.prompt, r.lane, r.text, bad) for r, bad in zip(some, scores, strict=True)]
    return found


def _row(candidate: Candidate) -> dict[str, Any]:
    prompt = candidate.prompt
    return {"text": prompt.text, "kind": prompt.kind, "domain": prompt.domain, "id": prompt.id, "lane": candidate.lane,
            "reply": candidate.text, "bad": round(candidate.bad, 5)}


def read_candidates(path: Path) -> list[Candidate]:
    """The candidates `sample` wrote."""
    return [Candidate(Prompt(row["text"], row["kind"], row["domain"], row["id"]), row["lane"], row["reply"], row["bad"])
            for row in read_jsonl(path)]
