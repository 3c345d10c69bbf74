"""Do the pocket models and patches do what they are made for? `python -m benchmarks.quality.pocket [--n 300] [--sealed]`

Judges base, reference, each patch and their stacks on held-out prompts, prints every figure beside its bar, and writes
benchmarks/results/pocket.json. About seven minutes on two cores, and seven more with --orders: all patches in sequence, in
every order. With --sealed the same on the sealed prompts, into sealed.json, which notes when and at which commit they were
opened; they are opened once, and a second time only with --again, which is noted too.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.provenance import RESULTS, commit, held_out, write_results
from patchlab.engine import Sampling, load
from patchlab.evaluation.suites import FOLDER
from patchlab.records import Progress
from patchlab.storage import write_json, write_jsonl
from tools.pocket.judge import judge
from tools.pocket.sealed import DOMAINS, sealed_prompts


def opened(out: Path, *, again: bool, n: int) -> list[dict[str, Any]]:
    """Note in the results file that the sealed prompts are opened now, before anything is read; all notes so far.

    Raises SystemExit where they were opened before, but for `again`.
    """
    found = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    notes = found.get("opened", [])
    if notes and not again:
        raise SystemExit(f"the sealed prompts were opened on {notes[0]['date']} at commit {notes[0]['commit'][:12]}; what is "
                         "measured on them again is no longer unseen; --again measures and notes it")
    notes = [*notes, {"date": datetime.now(UTC).date().isoformat(), "commit": commit(), "n": n}]
    write_json(out, found | {"opened": notes})
    return notes


def measured(folder: Path, n: int, seed: int, *, orders: bool, tokens: int) -> dict[str, Any]:
    """What `judge` finds on the prompts files of a folder."""
    found: dict[str, Any] = {}
    for each in judge(load("pocket"), folder=folder, n=n, seed=seed, orders=orders,
                      sampling=Sampling(seed=seed, max_new_tokens=tokens)):
        if isinstance(each, Progress):
            print(f"\r{each.stage} {each.done}/{each.total}".ljust(60), end="", file=sys.stderr)
        else:
            found = each
    print(file=sys.stderr)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print and write all figures; 0 where every bar is met, 1 otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=64, help="the most tokens of a reply")
    parser.add_argument("--orders", action="store_true")
    parser.add_argument("--sealed", action="store_true", help="on the sealed prompts, which are opened once")
    parser.add_argument("--again", action="store_true", help="open the sealed prompts although they were opened before")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(argv)
    out, split = given.out or RESULTS / ("sealed.json" if given.sealed else "pocket.json"), "sealed" if given.sealed else "held"
    with tempfile.TemporaryDirectory() as made:
        folder, notes = FOLDER / "pocket", {}
        if given.sealed:
            folder, notes = Path(made), {"opened": opened(out, again=given.again, n=given.n)}
            for name in DOMAINS:
                write_jsonl(folder / f"{name}.jsonl", ({"text": p.text, "kind": p.kind, "domain": name, "id": p.id}
                                                       for p in sealed_prompts(name, given.n)))
        found = measured(folder, given.n, given.seed, orders=given.orders, tokens=given.tokens)
        prompts = held_out(given.n, folder, visitors=not given.sealed)
    figures = [f for f in found["figures"] if not (given.sealed and f["name"].startswith("visitors"))]
    for f in figures:
        bar = f"  bar {f['bar']} {'met' if f['met'] else 'MISSED'}" if "bar" in f else ""
        print(f"{f['name']:<60} {f['value']:.3f} [{f['low']:.3f}, {f['high']:.3f}] n={f['n']}{bar}")
    write_results(out, {**found, **notes, "figures": figures}, command=f"quality.pocket{' --sealed' * given.sealed}",
                  prompts=prompts, split=split, n=given.n, seed=given.seed)
    return 0 if all(f["met"] in (True, None) for f in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
