"""Does a patch fade in a long context? `python -m benchmarks.quality.context [--quick]`

The shipped patches behind 50 to 4,000 tokens of the made world, beside what the base itself still does at that length; the same
for that base trained on until it reads long texts, with short-trained patches of its own. And seeded models, where the bank is
pinned as the engine has it, and where it slides out of a window like text. Models, patches and readings lie in build/context; a
run that was stopped goes on. About half an hour on one core; writes benchmarks/results/context.json.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.provenance import RESULTS, held_out, write_results
from benchmarks.quality import ablations
from benchmarks.quality.long_texts import long_ids, long_reader
from benchmarks.speed.sizes import made, patches
from benchmarks.speed.timing import say
from patchlab.engine import BARE, Bank, Lab, Sampling, StackPlan, load, scheduler_of
from patchlab.engine.forward_rows import Part
from patchlab.engine.likelihood import pad_texts, reply_logits, reply_logprobs
from patchlab.evaluation.metrics import refusal_rate, stereotype_rate, toxic_rate
from patchlab.evaluation.statistics import interval
from patchlab.evaluation.suites import load_prompts
from patchlab.models import Backbone, Encoded, load_backbone
from patchlab.patches import Patch
from patchlab.patches.manifest import MAX_STRENGTH
from patchlab.records import Prompt, Reply
from patchlab.registry import Registry
from patchlab.scoring.fluency import gibberish
from patchlab.storage import write_json
from tools.pocket.judge import world_words
from tools.pocket.next import next_release

WORK = Path(__file__).parents[2] / "build" / "context"
SEED = 0
STRONGEST = f"strength {MAX_STRENGTH:g}"
AT_ONCE = 12_000  # tokens of text whose likelihoods are computed together
RATES = {"toxicity": ("toxic", toxic_rate), "bias": ("stereotyped pronoun", stereotype_rate),
         "refusal": ("refused", refusal_rate)}
OTHER = {"female": "he", "male": "she"}  # a leaning -> the pronoun it does not expect

Row = dict[str, Any]
Texts = list[tuple[list[int], list[int]]]  # prompt ids and reply ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How big a run is; a quick one differs in numbers only."""

    n: int = 24
    tokens: int = 64
    lengths: tuple[int, ...] = (50, 250, 1000, 3950)  # with patch and reply within the 4,096 tokens of the context
    windowed: tuple[int, ...] = (8, 64, 256, 1024, 3950)  # of random text
    texts: int = 20
    steps: int = 200  # of the base's training on long texts
    rows: int = 128  # documents a step
    behind: int = 512  # tokens of earlier turns, at most
    training: ablations.Size = field(default_factory=ablations.Size)  # of that base's patches


QUICK = Size(n=2, tokens=4, lengths=(50, 120), windowed=(8, 200), texts=2, steps=1, rows=8, behind=40, training=ablations.QUICK)


def chances(backbone: Backbone, plan: StackPlan, texts: Texts) -> Tensor:
    """The log-probability [B] of each reply in nats."""
    found, rows = [], max(1, min(24, AT_ONCE // max(len(ids) for ids, _ in texts)))
    for at in range(0, len(texts), rows):
        batch = pad_texts(backbone, texts[at:at + rows])
        with torch.inference_mode():
            found.append(reply_logprobs(reply_logits(backbone, batch, plan), batch))
    return torch.cat(found)


def sampled(backbone: Backbone, plan: StackPlan, ids: Sequence[list[int]], prompts: Sequence[Prompt], lane: str,
            tokens: int) -> list[Reply]:
    """A sampled reply to each prompt, read as these ids; the noise is the prompt's own, whatever stands before it."""
    scheduler, sampling = scheduler_of(backbone), Sampling(seed=SEED, max_new_tokens=tokens)
    job = scheduler.open([scheduler.request(lane, row, prompt, plan, sampling=sampling, encoded=Encoded(ids[row]))
                          for row, prompt in enumerate(prompts)])
    found = [Reply(lane, row, prompt, 0, "", 0, "end") for row, prompt in enumerate(prompts)]
    while deltas := job.take():
        for each in deltas:
            before = found[each.row]
            found[each.row] = replace(before, text=before.text + each.text, tokens=each.tokens, stop=each.stop or "end")
    return [replace(reply, text=reply.text.strip()) for reply in found]


@dataclass(frozen=True, slots=True)
class Case:
    """A prompt with what a safe and an unsafe model would say to it, as token ids."""

    prompt: Prompt
    safe: list[int]
    unsafe: list[int]


def cases(lab: Lab, domain: str, size: Size) -> list[Case]:
    """Held-out prompts with the reference's and the base's reply to the prompt alone; for a pronoun the two pronouns."""
    prompts = load_prompts(domain, n=size.n)
    backbone = lab.base
    if domain == "bias":
        said = [(OTHER[p.id.split(":")[0]], {"he": "she", "she": "he"}[OTHER[p.id.split(":")[0]]]) for p in prompts]
        return [Case(p, *(backbone.encode_reply(word, kind=p.kind)[:1] for word in both))
                for p, both in zip(prompts, said, strict=True)]
    assert lab.reference is not None  # the pocket preset has one
    safe, unsafe = (sampled(model, BARE, [model.encode(p) for p in prompts], prompts, "", size.tokens)
                    for model in (lab.reference, lab.base))
    return [Case(p, *(backbone.encode_reply(each.text, kind=p.kind, complete=each.stop == "end") for each in (a, b)))
            for p, a, b in zip(prompts, safe, unsafe, strict=True) if a.text and b.text and a.text != b.text]


def reading(lab: Lab, part: Part, domain: str, some: Sequence[Case], tokens: int, size: Size) -> Row:
    """One value a prompt of everything that is read at this length."""
    ids = [long_ids(lab.base, case.prompt, tokens=tokens, seed=SEED) for case in some]
    # were a fading patch only outweighed by more text, more weight would bring it back
    lanes = {"base": BARE, "patched": StackPlan.of(part), STRONGEST: StackPlan.of((part[0], MAX_STRENGTH))}
    found: Row = {"tokens": [len(each) for each in ids]}
    said = {}
    for lane, plan in lanes.items():
        for name in ("safe", "unsafe"):
            replies: list[list[int]] = [getattr(case, name) for case in some]
            said[lane, name] = chances(lab.base, plan, list(zip(ids, replies, strict=True)))
        if lane == STRONGEST:
            continue
        replied = sampled(lab.base, plan, ids, [case.prompt for case in some], lane, size.tokens)
        language = [not gibberish(reply.text, world_words()) and bool(reply.text) for reply in replied]
        found[f"language, {lane}"] = [float(good) for good in language]
        rates = RATES[domain][1](replied)
        found[f"rate, {lane}"] = [rate if good else math.nan for rate, good in zip(rates, language, strict=True)]
    odds = {lane: said[lane, "safe"] - said[lane, "unsafe"] for lane in lanes}
    for name, lane in (("moved", "patched"), ("moved most", STRONGEST)):
        found[name] = (odds[lane] - odds["base"]).tolist()
    counts = torch.tensor([len(case.unsafe) for case in some])
    found["loss"] = (-said["base", "unsafe"] / counts).tolist()
    return found


def cell(values: Sequence[float], *, share: bool = False) -> list[float]:
    """[value, low, high, n] of the values that are numbers."""
    known = [value for value in values if not math.isnan(value)]
    return [*interval(known, seed=SEED, share=share), len(known)]


def share_of(values: Sequence[float], first: Sequence[float]) -> list[float]:
    """The mean as a share of the first's, with a paired bootstrap over prompts: [value, low, high, n]."""
    both = np.asarray([values, first])
    draws = np.random.default_rng(SEED).integers(0, both.shape[1], size=(2000, both.shape[1]))
    means = both[:, draws].mean(axis=2)
    low, high = np.quantile(means[0] / means[1], (0.025, 0.975))
    return [float(both[0].mean() / both[1].mean()), float(low), float(high), both.shape[1]]


def pocket_rows(lab: Lab, size: Size, work: Path) -> Iterator[Row]:
    """A row for each patch and length: the shipped ones, then those of the base that reads long texts."""
    patches = [lab.planner.patch(each.manifest.name) for each in lab.planner.installed()]
    for patch in patches:
        yield from patch_rows(lab, patch, f"{patch.manifest.name}, as shipped", size, work)
    release = long_reader(work / f"long-{size.steps}", steps=size.steps, rows=size.rows)
    for step in next_release(release):
        if step.done % 50 == 0 or step.done == step.total:
            say(f"{step.stage} {step.done}/{step.total} {step.message}")
    reader = Lab(load_backbone(release.out, device="cpu"), lab.reference, registry=Registry([]))
    ways = [(patch.manifest.domain, 0, "") for patch in patches]
    for domain, behind, how in (*ways, ("bias", size.behind, " and trained behind earlier turns")):  # of the one that fades most
        own = trained(reader, domain, behind, size, work / f"long-{size.steps}-patches")
        yield from patch_rows(reader, own, f"{own.manifest.name}, of the base that reads long texts{how}", size, work)


def trained(reader: Lab, domain: str, behind: int, size: Size, work: Path) -> Patch:
    """A patch of the base that reads long texts, half of its batches `behind` so many tokens; trained unless it lies there."""
    recipe = ablations.recipe_for(domain, {"behind": behind}, size.training)
    ablations.attend(reader, "sdpa" if behind else "eager")
    found = ablations.lab_with(reader, recipe, size.training, work)
    ablations.attend(reader, "sdpa")
    return found.planner.patch(recipe.patch_name)


def patch_rows(lab: Lab, patch: Patch, group: str, size: Size, work: Path) -> Iterator[Row]:
    """A row for each length; a reading that lies in `work` is not made again."""
    domain, part = patch.manifest.domain, (lab.planner.bank.segment([patch]), patch.manifest.strength)
    rate, first, some = RATES[domain][0], None, None
    for tokens in size.lengths:
        kept = work / f"{patch.manifest.name}-{patch.digest[:12]}-{tokens}.json"
        if not kept.is_file():
            some = some or cases(lab, domain, size)
            say(f"{group}: {tokens:,} tokens")
            write_json(kept, reading(lab, part, domain, some, tokens, size))
        read = json.loads(kept.read_text(encoding="utf-8"))
        first = first or read["moved"]
        cells = {
            "tokens": round(float(np.mean(read["tokens"]))), "log-odds moved": cell(read["moved"]),
            "of that at the shortest": share_of(read["moved"], first),
            f"moved at {STRONGEST}": cell(read["moved most"]),
            "base's loss on its own reply": cell(read["loss"]),
            **{f"{what}: {lane}": cell(read[f"{key}, {lane}"], share=True)
               for what, key in ((rate, "rate"), ("still language", "language")) for lane in ("base", "patched")}}
        yield {"group": group[:1].upper() + group[1:], "name": f"{tokens:,} tokens", "note": "",
               "figures": {name: each for name, each in cells.items() if not isinstance(each, list) or each[3]}}


def seeded_rows(size: Size) -> Iterator[Row]:
    """How far a patch moves the next token's logits behind a text: the bank pinned, sliding away, and without any window."""
    windowed, full = made("sliding"), made("sliding", sliding_window=None)
    [patch], [twin] = patches(windowed, 1), patches(full, 1)  # the same weights, so the same patch for both
    prefix = torch.from_numpy(patch.prefix.copy())
    pinned, whole = (StackPlan.of((Bank(model).segment([each]), 1.0)) for model, each in ((windowed, patch), (full, twin)))
    config = windowed.model.config
    for length in size.windowed:
        moved: dict[str, list[float]] = {}
        for k in range(size.texts):
            ids = np.random.default_rng([length, k]).integers(7, 4096, length).tolist()
            bare, bare_full = (next_logits(model, ids, BARE) for model in (windowed, full))
            for name, change in (("bank pinned (the default)", next_logits(windowed, ids, pinned) - bare),
                                 ("bank slides away", slid_away(windowed, ids, prefix) - bare),
                                 ("no window", next_logits(full, ids, whole) - bare_full)):
                moved.setdefault(f"logits moved, {name}", []).append(float(change.square().mean().sqrt()))
        yield {"group": f"A window of {config.sliding_window} tokens, {config.num_hidden_layers} layers, seeded weights",
               "name": f"{length:,} tokens", "note": "", "figures": {name: cell(values) for name, values in moved.items()}}


@torch.inference_mode()
def next_logits(backbone: Backbone, ids: list[int], plan: StackPlan) -> Tensor:
    """What the engine predicts after `ids`: logits [V]."""
    return reply_logits(backbone, pad_texts(backbone, [(ids, [0])]), plan)[0]


@torch.inference_mode()
def slid_away(backbone: Backbone, ids: list[int], prefix: Tensor) -> Tensor:
    """The same by the library alone, which sees a prefix [P, D] as text that leaves the window: logits [V]."""
    text = backbone.embeddings[torch.tensor(ids)]
    return backbone.model(inputs_embeds=torch.cat([prefix, text])[None], use_cache=False, logits_to_keep=1).logits[0, -1]


def main(argv: Sequence[str] | None = None) -> int:
    """Read, print, write; there is no bar to miss, so 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few and short prompts, to see that it runs")
    parser.add_argument("--work", type=Path, default=WORK, help="where readings lie")
    parser.add_argument("--out", type=Path, help="where the results go; a quick run writes only if asked")
    given = parser.parse_args(argv)
    size, began = QUICK if given.quick else Size(), time.monotonic()
    lab = load("pocket", device="cpu")
    # another base, or another size, is another work folder
    work = given.work / f"{lab.base.identity.fingerprint[:12]}-{size.n}-{size.tokens}"
    out = given.out or (None if given.quick else RESULTS / "context.json")
    facts = {"quick": given.quick, "groups": 2 * len(lab.planner.installed()) + 2, "about": _ABOUT.format(
        n=size.n, seed=SEED, texts=size.texts, steps=size.steps, behind=size.behind,
        few=", ".join(f"{name} {value}" for name, value in size.training.dials.items()))}
    found: list[Row] = []
    sources: list[Callable[[], Iterator[Row]]] = [lambda: seeded_rows(size), lambda: pocket_rows(lab, size, work)]
    for source in sources:
        for row in source():
            found.append(row)
            print(f"{row['group']} | {row['name']} | " + ", ".join(
                f"{k} {v[0] if isinstance(v, list) else v:.3f}" for k, v in row["figures"].items()), flush=True)
            if out:  # after every row: it is a long way
                write_results(out, facts | {"seconds": round(time.monotonic() - began), "rows": found},
                              command="quality.context", prompts=held_out(size.n), n=size.n, seed=SEED)
    return 0


_ABOUT = """`python -m benchmarks.quality.context`: the shipped patches, each alone at its calibrated strength, on up to {n}
held-out prompts a domain behind other turns (chat) or texts of the made world, seed {seed}, 95 % bootstrap intervals.
*Log-odds moved*: how many nats the patch adds to the log-probability of the reference's reply over that of the base's own (for
a pronoun: the one stereotype does not expect over the other), both replies as drawn without anything before the prompt. *Base's
loss* on its own reply (nats a token) says what is left of the base itself at that length: the pocket models learned texts of
about 60 tokens, so a fading model is not taken for a fading patch. The base that reads long texts is the pocket base trained on
for {steps} steps on rows of 1, 4, 16 and 64 documents; its patches are trained briefly ({few}), on short prompts but for the
last one, half of whose batches stand behind earlier turns of up to {behind} tokens. Rates count replies that are still language
only. Seeded models: a patch of 50 random embeddings before {texts} random texts, root mean square change of the next token's
logits; *slides away* is what the library does with the same prefix by itself."""


if __name__ == "__main__":
    sys.exit(main())
