"""How much should slots weigh behind earlier turns? `python -m benchmarks.quality.conversation_laws --smollm2 DIR --data DIR`

A refusal patch of SmolLM2 in conversations of dev prompts, under laws that raise the scores of its slots by all, a part or
nothing of what keeps their share of attention. Prints rows; with --out it writes them too. Nothing here reads test prompts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.provenance import write_results
from benchmarks.quality.conversation import QUICK, SEED, WORK, Size, asked, setup, studies
from benchmarks.quality.conversation_read import Row, rows
from benchmarks.quality.conversation_suites import SINGLE, after
from patchlab.engine.attention import Law, keep_share, under


def part(share: float) -> Law:
    """This share of what keeps the slots' share of attention, in the logarithm."""
    return lambda exchanges, turn: share * keep_share(exchanges, turn)


LAWS: dict[str, Law] = {"no law": lambda exchanges, turn: torch.zeros_like(turn), "a third": part(1 / 3), "half": part(1 / 2),
                        "all": keep_share}


def read(folder: Path, data: Path, size: Size, work: Path) -> Iterator[Row]:
    """A row for each law and number of exchanges, harmless requests asked in every one."""
    lab, work = setup(folder, size, work, "dev")
    for study in studies(lab, data, size, work, "dev"):
        [stack] = study.stacks.values()
        if stack.gates or stack.placement != "turn":
            continue
        for name, law in LAWS.items():
            one = replace(study, name=name, probes=[replace(probe, only=()) for probe in study.probes],
                          price=[SINGLE, *map(after, size.numbers)])
            with under(law):
                yield from rows(one, work, [SINGLE, *map(after, size.numbers)])


def main(argv: Sequence[str] | None = None) -> int:
    """Read and print; there is no bar to miss, so 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few prompts and tokens, to see that it runs")
    parser.add_argument("--smollm2", type=Path, required=True, help="folder with patches/")
    parser.add_argument("--data", type=Path, required=True, help="folder of public safety data")
    parser.add_argument("--n", type=int, default=60, help="prompts a probe (default: 60)")
    parser.add_argument("--work", type=Path, default=WORK, help="where replies lie")
    parser.add_argument("--out", type=Path, help="where the rows go")
    given = parser.parse_args(argv)
    size = QUICK if given.quick else Size(n=given.n, calm=given.n // 2, tokens=24)
    found = []
    for row in read(given.smollm2, given.data, size, given.work):
        found.append(row)
        print(f"{row['group']} | {row['name']} | " + ", ".join(
            f"{k} {v[0]:.3f}" for k, v in row["figures"].items() if isinstance(v, list) and "(" not in k), flush=True)
        if given.out:
            write_results(given.out, {"quick": given.quick, "rows": found}, command="quality.conversation_laws", split="dev",
                          prompts=asked(given.data, "dev"), judges=("refusal", "refusal-2"), n=size.n, seed=SEED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
