"""Candidates: what base and reference answer to the training prompts, each with how bad its domain's scorer finds it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from patchlab.engine import Lane, Sampling, replies
from patchlab.files import read_jsonl, write_jsonl
from patchlab.records import Progress, Prompt
from patchlab.scoring import load_scorer

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
    """Draw and score `samples` replies a prompt from each lane, and write them to `path`; yields progress."""
    found: list[Candidate] = []
    done = 0
    for chunk in replies(lanes, prompts, samples=samples, sampling=sampling, rows=ROWS):
        by_domain: dict[str, list[int]] = {}
        for k, reply in enumerate(chunk):
            by_domain.setdefault(reply.prompt.domain, []).append(k)
        for domain, places in by_domain.items():
            some = [chunk[k] for k in places]
            scores = badness(domain, [r.text for r in some], [r.prompt for r in some])
            found += [Candidate(r.prompt, r.lane, r.text, bad) for r, bad in zip(some, scores, strict=True)]
        done += len(chunk)
        yield Progress("candidates", done, len(prompts) * samples * len(lanes))
    write_jsonl(path, ({"text": c.prompt.text, "kind": c.prompt.kind, "domain": c.prompt.domain, "id": c.prompt.id,
                        "lane": c.lane, "reply": c.text, "bad": round(c.bad, 5)} for c in found))


def read_candidates(path: Path) -> list[Candidate]:
    """The candidates `sample` wrote."""
    return [Candidate(Prompt(row["text"], row["kind"], row["domain"], row["id"]), row["lane"], row["reply"], row["bad"])
            for row in read_jsonl(path)]
