"""Do the pocket models and patches do what they are made for? `python -m benchmarks.quality.pocket [--n 300]`

Judges base, reference, each patch and their stacks on held-out prompts, prints every figure beside its bar, and writes
benchmarks/results/pocket.json. About six minutes on two cores, and six more with --orders: all patches in sequence, in
every order.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from patchlab.engine import load
from patchlab.evaluation.suites import FOLDER
from patchlab.records import Progress
from patchlab.storage import write_json
from tools.pocket.judge import judge

RESULTS = Path(__file__).parents[1] / "results" / "pocket.json"


def main() -> int:
    """Print and write all figures; 0 where every bar is met, 1 otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--orders", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    found: dict = {}
    for each in judge(load("pocket"), folder=FOLDER / "pocket", n=given.n, seed=given.seed, orders=given.orders):
        if isinstance(each, Progress):
            print(f"\r{each.stage} {each.done}/{each.total}".ljust(60), end="", file=sys.stderr)
        else:
            found = each
    print(file=sys.stderr)
    for f in found["figures"]:
        bar = f"  bar {f['bar']} {'met' if f['met'] else 'MISSED'}" if "bar" in f else ""
        print(f"{f['name']:<60} {f['value']:.3f} [{f['low']:.3f}, {f['high']:.3f}] n={f['n']}{bar}")
    write_json(given.out, found)
    return 0 if all(f["met"] in (True, None) for f in found["figures"]) else 1


if __name__ == "__main__":
    sys.exit(main())
