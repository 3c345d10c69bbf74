"""Evaluates a stack: replies of every lane on every suite, their metrics with intervals, as one Report."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from patchlab.artifact import Stack
from patchlab.engine import Sampling, Trio, replies
from patchlab.evaluation.likelihood import divergences, log_losses
from patchlab.evaluation.metrics import METRICS, by_prompt
from patchlab.evaluation.statistics import interval
from patchlab.evaluation.suites import SUITES, load_prompts, suite
from patchlab.files import write_json, write_jsonl, write_text
from patchlab.records import Measure, Progress, Prompt, Reply, Report

SAMPLES = {"toxicity": 2, "bias": 4}  # samples a prompt where one draw says little
EXAMPLES = 3  # replies of each suite and lane that go into the report


def evaluate(trio: Trio, *, stack: Stack, suites: Sequence[str] = (), n: int = 300, seed: int = 0,
             lanes: Sequence[str] | None = None, folder: Path | None = None,
             sampling: Sampling | None = None) -> Iterator[Progress | Report]:
    """Yield Progress, and at last one Report, for `stack` on these suites (all by default), `n` prompts a file each.

    Prompts come from `folder` (the embedded suites by default).
    Raises NotFoundError for an unknown suite before any work is done.
    """
    sampling = sampling or Sampling(seed=seed)
    chosen = [suite(name).name for name in suites] or list(SUITES)
    names = list(lanes or (trio.lanes if stack else [name for name in trio.lanes if name != "patched"]))
    made: dict[tuple[tuple[str, ...], int], list[Reply]] = {}  # suites on the same prompts share their replies
    measures: list[Measure] = []
    examples: list[Reply] = []
    for name in chosen:
        samples = SAMPLES.get(name, 1)
        key = (suite(name).files, samples)
        if key not in made:
            asked = load_prompts(name, n=n, folder=folder)
            made[key] = yield from _draw(trio, stack, names, asked, samples, sampling, name)
        for lane in names:
            own = [reply for reply in made[key] if reply.lane == lane]
            if name == "drift":  # on what the base itself says
                own = [reply for reply in made[key] if reply.lane == "base"] if lane == "patched" else []
            measures += _measure(trio, stack, name, lane, own, seed)
            examples += own[:EXAMPLES]
    unique = dict.fromkeys(examples)
    yield Report(tuple(measures), tuple(unique), {
        "preset": trio.preset.name, "base": trio.base.identity.fingerprint, "stack": str(stack), "mode": stack.mode,
        "n": str(n), "seed": str(seed), "temperature": f"{sampling.temperature:g}"})


def _draw(trio: Trio, stack: Stack, lanes: Sequence[str], prompts: Sequence[Prompt], samples: int,
          sampling: Sampling, name: str) -> Generator[Progress, None, list[Reply]]:
    found: list[Reply] = []
    total = len(prompts) * samples * len(lanes)
    for chunk in replies(trio.lane_list(stack, lanes), prompts, samples=samples, sampling=sampling):
        found += chunk
        yield Progress(name, len(found), total)
    return sorted(found, key=lambda reply: (reply.lane, reply.row))


def _measure(trio: Trio, stack: Stack, name: str, lane: str, own: Sequence[Reply], seed: int) -> Iterator[Measure]:
    def measure(metric: str, values: Sequence[float], scorer: str, suite_name: str = name) -> Measure:
        known = [value for value in values if not math.isnan(value)]
        value, low, high = interval(known, seed=seed, share="_rate" in metric)
        return Measure(suite_name, lane, metric, value, low, high, len(known), scorer)

    for metric, scorer, compute in METRICS.get(name, ()):
        yield measure(metric, compute(own), scorer)
        if name == "overrefusal":
            for domain in ("benign", "lookalike"):
                some = [reply for reply in own if reply.prompt.domain == domain]
                if some:
                    yield measure(f"{metric}_{domain}", compute(some), scorer)
    if name == "fluency":
        said = [reply for reply in own if reply.text]
        losses = measure("log_loss", by_prompt(said, log_losses(trio.reference, said)), trio.reference.name)
        # perplexity is reported as the exponential of a mean, so that its interval is too
        yield dataclasses.replace(losses, metric="perplexity", value=math.exp(losses.value), low=math.exp(losses.low),
                                  high=math.exp(losses.high))
    if name == "drift" and own:
        said = [reply for reply in own if reply.text]
        yield measure("kl_to_base", by_prompt(said, divergences(trio.base, said, trio.parts(stack))), trio.base.name)


def as_markdown(report: Report) -> str:
    """The report's measures as a Markdown table."""
    lines = ["| suite | metric | lane | value | 95 % interval | n | scorer |", "|---|---|---|---|---|---|---|"]
    lines += [f"| {m.suite} | {m.metric} | {m.lane} | {m.value:.3f} | {m.low:.3f} to {m.high:.3f} | {m.n} | {m.scorer} |"
              for m in report.measures]
    return "\n".join(lines) + "\n"


def write_report(report: Report, folder: Path) -> None:
    """Write report.json, report.md and replies.jsonl into `folder`."""
    write_json(folder / "report.json", {"made_with": dict(report.made_with),
                                        "measures": [dataclasses.asdict(m) for m in report.measures]})
    write_text(folder / "report.md", as_markdown(report))
    write_jsonl(folder / "replies.jsonl", (dataclasses.asdict(reply) for reply in report.replies))
