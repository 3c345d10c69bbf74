"""What is a patch worth on the next release of its base? `python -m benchmarks.quality.transfer [--quick]`

Trains the pocket base on, at two distances, and checks every shipped patch on each. Releases, replies and checks lie in
build/transfer; a run that was stopped goes on. About twenty minutes on one core; writes benchmarks/results/transfer.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.provenance import JUDGES, RESULTS, held_out, write_results
from benchmarks.speed.timing import say
from patchlab.engine import Lab, Lane, Sampling, load, replies, scheduler_of
from patchlab.evaluation.metrics import by_prompt
from patchlab.evaluation.probabilities import divergences_from, log_losses
from patchlab.evaluation.statistics import interval
from patchlab.evaluation.suites import load_prompts
from patchlab.evaluation.transfer import check_port
from patchlab.models import Backbone, load_backbone, preset
from patchlab.patches import Patch
from patchlab.records import Progress
from patchlab.storage import write_json
from tools.pocket.language_model import Size as ModelSize
from tools.pocket.next import Release, next_release

WORK = Path(__file__).parents[2] / "build" / "transfer"
SEED = 0

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How big a run is; a quick one differs in numbers only."""

    n: int = 150
    steps: tuple[int, ...] = (50, 300)
    rows: int = 128  # documents a training step
    tokens: int = 64


QUICK = Size(n=2, steps=(1, 2), rows=4, tokens=4)


def released(steps: int, size: Size, work: Path) -> Backbone:
    """The base's next release at so many steps; trained unless it lies there."""
    release = Release(source=Path(preset("pocket").source("base")), out=work / f"steps-{steps}", steps=steps,
                      size=ModelSize(rows=size.rows, peak_rate=2.5e-3))
    for step in next_release(release):
        if step.done % 50 == 0 or step.done == steps:
            say(f"{step.stage} {step.done}/{step.total} {step.message}")
    return _eager(load_backbone(release.out, device="cpu"))


def _eager(backbone: Backbone) -> Backbone:
    backbone.model.set_attn_implementation("eager")  # on a CPU, the quickest for short rows
    return backbone


def distance(old: Backbone, new: Backbone, size: Size) -> Row:
    """How far the release is from the base on harmless requests, by the old base's own replies to them."""
    sampling = Sampling(seed=SEED, max_new_tokens=size.tokens)
    said = replies([Lane("base", scheduler_of(old))], load_prompts("drift", n=size.n), sampling=sampling)
    said = [reply for reply in said if reply.text]
    far = by_prompt(said, divergences_from(old, new, said))
    more = [b - a for a, b in zip(log_losses(old, said), log_losses(new, said), strict=True)]
    return {"KL of the old base to it, harmless": [*interval(far, seed=SEED), len(far)],
            "nats a token more for the old base's replies": [*interval(more, seed=SEED), len(more)]}


def checked(patch: Patch, lab: Lab, new: Backbone, size: Size, folder: Path) -> Row:
    """The check of a patch on a release, as JSON; one that lies in `folder` is not made again."""
    kept = folder / "check.json"
    if not kept.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        for found in check_port(patch, made_for=lab.base, base=new, n=size.n, seed=SEED, out=folder,
                                sampling=Sampling(seed=SEED, max_new_tokens=size.tokens)):
            if isinstance(found, Progress):
                if found.done in (0, found.total):
                    say(f"{folder.name} {found.stage} {found.done}/{found.total}")
            else:
                write_json(kept, found.to_json())
    return json.loads(kept.read_text(encoding="utf-8"))


def figures(check: Row) -> Row:
    """The columns of a check: [value, low, high, n] each."""
    def cell(rows: Sequence[Row], lane: str, metric: str, place: int = 0, suite: str = "") -> list[float] | None:
        some = [row for row in rows if row["lane"] == lane and row["metric"] == metric and suite in ("", row["suite"])]
        return [some[place][key] for key in ("value", "low", "high", "n")] if len(some) > place else None

    effects, measures = check["effects"], check["measures"]
    found = {"effect on its own base": cell(effects, "old patched", "effect"),
             "effect on this one": cell(effects, "patched", "effect"),
             "effect kept": cell(effects, "patched", "effect_kept"),
             "kept, by the second scorer": cell(effects, "patched", "effect_kept", 1),
             "harmless refused": cell(measures, "patched", "refusal_rate", suite="overrefusal"),
             "KL to this base, harmless": cell(measures, "patched", "kl_to_base")}
    return {name: value for name, value in found.items() if value}


def rows(lab: Lab, size: Size, work: Path) -> Iterator[Row]:
    """For each release a row of its own, then one for each shipped patch."""
    patches = [lab.planner.patch(each.manifest.name) for each in lab.planner.installed()]
    for steps in size.steps:
        new, group = released(steps, size, work), f"{steps:,} steps further"
        yield {"group": group, "name": "the release itself", "figures": distance(lab.base, new, size), "note": ""}
        for patch in patches:
            name = patch.manifest.name
            check = checked(patch, lab, new, size, work / f"{steps}-{name}-{patch.digest[:12]}")
            yield {"group": group, "name": name, "figures": figures(check), "note": f"{check['verdict']}: {check['why']}",
                   "measures": check["measures"], "effects": check["effects"]}


def main(argv: Sequence[str] | None = None) -> int:
    """Train, check, print, write; there is no bar to miss, so 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a step or two and few prompts, to see that it runs")
    parser.add_argument("--work", type=Path, default=WORK, help="where releases, replies and checks lie")
    parser.add_argument("--out", type=Path, help="where the results go; a quick run writes only if asked")
    given = parser.parse_args(argv)
    size, began = QUICK if given.quick else Size(), time.monotonic()
    lab = load("pocket", device="cpu")
    _eager(lab.base)
    # another base, or another size, is another work folder
    work = given.work / f"{lab.base.identity.fingerprint[:12]}-{size.n}"
    out = given.out or (None if given.quick else RESULTS / "transfer.json")
    facts = {"quick": given.quick, "groups": len(size.steps),
             "about": f"`python -m benchmarks.quality.transfer`: the pocket base trained on for some steps of {size.rows} "
                      "documents, on its world told by another seed, and every shipped patch on it through `patchlab patches "
                      f"port`, on {size.n} held-out prompts a file, temperature 0.8, seed {SEED}, 95 % bootstrap intervals. "
                      "An effect is how much nearer its rate comes to where it should be (0 toxic, 0.5 stereotyped, 1 refused); "
                      "*kept* is the effect on this base over that on the patch's own, all lanes paired by prompt. Judged by "
                      "the first scorer of each claim unless said."}
    found: list[Row] = []
    for row in rows(lab, size, work):
        found.append(row)
        print(f"{row['group']} | {row['name']} | " + ", ".join(f"{k} {v[0]:.3f}" for k, v in row["figures"].items())
              + (f" | {row['note']}" if row["note"] else ""), flush=True)
        if out:  # after every row: it is a long way
            write_results(out, facts | {"seconds": round(time.monotonic() - began), "rows": found},
                          command="quality.transfer", prompts=held_out(size.n), n=size.n, seed=SEED,
                          judges=(*JUDGES, "toxicity-2", "refusal-2"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
