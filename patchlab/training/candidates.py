"""Candidates: replies of base and reference to the training prompts, each with the score of its domain's scorer."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from patchlab.engine import Lane, Sampling
from patchlab.errors import InputError
from patchlab.evaluation.reply_store import Replies
from patchlab.records import EMPTY, Kind, Progress, Prompt, Reply, Stop
from patchlab.scoring import load_scorer
from patchlab.storage import read_jsonl, write_jsonl


@dataclass(frozen=True, slots=True)
class Candidate:
    """One reply of a lane to a prompt; `score` from 0 (best) to 1 (worst), 0 where the prompt's domain has no scorer."""

    prompt: Prompt
    lane: str
    text: str
    score: float
    stop: Stop = "end"

    @property
    def cut(self) -> bool:
        """Whether the reply was cut off by the length limit."""
        return self.stop == "length"


def domain_scores(domain: str, texts: Sequence[str], prompts: Sequence[Prompt]) -> list[float]:
    """The score of each reply, from 0 (best) to 1 (worst): toxicity; compliance with harmful, refusal of harmless requests.

    A reply without an answer is the worst of any domain that has a scorer, one in a language that is not judged is 0.5.
    """
    if domain not in ("toxicity", "harmful", "benign", "lookalike"):
        return [0.0] * len(texts)
    scorer = load_scorer("toxicity" if domain == "toxicity" else "refusal")
    found = scorer.score(texts, [prompt.text for prompt in prompts])
    return [1.0 if score.label == EMPTY else 1 - score.value if domain == "harmful" else score.value for score in found]


def sample(lanes: Sequence[Lane], prompts: Sequence[Prompt], *, sampling: Sampling, samples: int,
           path: Path) -> Iterator[Progress]:
    """Draw `samples` replies a prompt from each lane, score them and write them to `path`, by lane; yields progress.

    Finished replies are kept in a folder beside it until all are, so that a run that was interrupted draws what is missing.
    """
    unfinished = path.with_name(f".{path.name}.part")
    store = Replies({}, unfinished)  # what they depend on is in begun.json
    try:
        found = yield from store.draw(lanes, prompts, samples, sampling, "candidates")
    finally:
        store.close()
    write_candidates(path, scored(found))
    shutil.rmtree(unfinished)


def scored(replies: Sequence[Reply]) -> list[Candidate]:
    """Replies with the scores of their domains, in the same order."""
    scores: dict[int, float] = {}
    for domain in {reply.prompt.domain for reply in replies}:
        places = [k for k, reply in enumerate(replies) if reply.prompt.domain == domain]
        found = domain_scores(domain, [replies[k].text for k in places], [replies[k].prompt for k in places])
        scores |= zip(places, found, strict=True)
    return [Candidate(r.prompt, r.lane, r.text, round(scores[k], 5), r.stop) for k, r in enumerate(replies)]


def write_candidates(path: Path, candidates: Sequence[Candidate]) -> None:
    """Write candidates, one JSON line each."""
    write_jsonl(path, ({**prompt_row(c.prompt), "lane": c.lane, "reply": c.text, "stop": c.stop, "score": c.score}
                       for c in candidates))


def read_candidates(path: Path) -> list[Candidate]:
    """The candidates `write_candidates` wrote."""
    return [Candidate(prompt_of(row), row["lane"], row["reply"], row["score"], row["stop"]) for row in read_jsonl(path)]


def prompt_row(prompt: Prompt) -> dict[str, Any]:
    """A prompt as columns of a row: `prompt` is its text, or its messages where it has more than one."""
    messages = [asdict(message) for message in prompt.messages]
    return {"prompt": messages if len(messages) > 1 else prompt.text, "kind": prompt.kind, "domain": prompt.domain,
            "id": prompt.id}


def prompt_of(row: Mapping[str, Any], *, kind: Kind = "chat", domain: str = "") -> Prompt:
    """The prompt of a row; `kind` and `domain` are used where the row has none. Raises InputError for one that is none."""
    asked = row["prompt"]
    if not isinstance(row.get("domain") or "", str):
        raise InputError(f"domain {str(row['domain'])[:40]!r}", expected="a word", do="fix that row")
    found = Prompt.of(asked) if isinstance(asked, list) else Prompt(asked)
    return replace(found, kind=row.get("kind") or kind, domain=row.get("domain") or domain, id=str(row.get("id") or ""))
