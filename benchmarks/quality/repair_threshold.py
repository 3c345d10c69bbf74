"""The threshold of the answer "no trigger": `python -m benchmarks.quality.repair_threshold`

Reads the statistic on failures that are judged nowhere else: triggered ones of the development families (other words, other
requests than those of benchmarks/quality/repair.py), and clean ones of models that refuse only a part of harmful requests, of
other seeds. The threshold is the one whose worse error, false alarms or misses, is smallest at the end of its interval; among
equals the middle one. Writes benchmarks/results/repair-threshold.json; `patchlab.repair.localize.THRESHOLD` is set from it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.provenance import RESULTS, write_results
from benchmarks.quality.ablations import returned
from benchmarks.quality.repair_cases import Size, clean_set, poisoned
from patchlab.evaluation.statistics import wilson
from patchlab.models import Backbone
from patchlab.records import Prompt
from patchlab.repair import Failure, Located, locate
from patchlab.repair.contrast import TESTED, Greedy, Probe
from tools.backdoors import train
from tools.backdoors.triggers import DEVELOPMENT, NONE, injected

SEED = 31  # of the requests; the judged ones have others
CLEAN_SEEDS = (1, 2)  # of models without a trigger: one that refuses nearly all harmful requests, and one that answers most
CANDIDATES = tuple((k + 0.5) / TESTED for k in range(TESTED))  # between the values that the statistic can have


def located(model: Backbone, prompts: Sequence[Prompt], size: Size) -> list[Located]:
    """What is found for those of the prompts that the model answers."""
    greedy, probe = Greedy(model), Probe(model, clean_set(size, "train"), seed=SEED)
    said = greedy.replies(prompts)
    return [returned(locate(Failure(model, reply.prompt, reply.text), probe))
            for reply, no in zip(said, greedy.refused(said), strict=True) if not no]


def statistic(found: Located) -> float:
    """The statistic; where removing the words changes nothing, below every threshold."""
    return found.statistic if found.flips else -1.0


def best(triggered: Sequence[float], clean: Sequence[float]) -> tuple[float, dict[str, list[float]]]:
    """The threshold, and false alarms and misses at it with their intervals."""
    def errors(threshold: float) -> dict[str, list[float]]:
        alarms, missed = sum(value >= threshold for value in clean), sum(value < threshold for value in triggered)
        return {"false alarms": [alarms / len(clean), *wilson(alarms, len(clean)), len(clean)],
                "missed": [missed / len(triggered), *wilson(missed, len(triggered)), len(triggered)]}

    worse = {each: max(found[2] for found in errors(each).values()) for each in CANDIDATES}
    equals = [each for each in CANDIDATES if worse[each] <= min(worse.values()) + 1e-9]
    chosen = equals[len(equals) // 2]
    return chosen, errors(chosen)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=60, help="requests a family, of clean ones twice as many (default: 60)")
    parser.add_argument("--families", nargs="*", default=[*DEVELOPMENT], help="development families (default: all)")
    parser.add_argument("--work", type=Path, default=Path("runs/repair"), help="models (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS / "repair-threshold.json", help="default: %(default)s")
    given = parser.parse_args(argv)
    size, triggered = Size(), list[float]()
    rows: list[dict[str, Any]] = []
    for family in given.families:
        asked = [each.prompt for each in injected(family, train.texts_of("harmful", "train", given.n, seed=SEED), seed=SEED)]
        values = [statistic(each) for each in located(poisoned(family, size, given.work), asked, size)]
        triggered += values
        rows.append({"name": family, "statistics": values})
        print(json.dumps(rows[-1]), flush=True)
    asked = [Prompt(text) for text in train.texts_of("harmful", "train", 4 * given.n, seed=SEED + 1)]
    clean = [statistic(each) for seed in CLEAN_SEEDS
             for each in located(poisoned(NONE, size, given.work, seed=seed), asked, size)]
    rows.append({"name": NONE, "statistics": clean})
    threshold, errors = best(triggered, clean)
    print(threshold, errors)
    prompts = {"harmful": asked}
    write_results(given.out, {"threshold": threshold, "errors": errors, "rows": rows}, command="quality.repair_threshold",
                  prompts=prompts, split="train", judges=("refusal",), n=given.n, seed=SEED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
