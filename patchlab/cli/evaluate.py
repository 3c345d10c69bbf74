"""`patchlab evaluate`: what a stack does on whole suites, in numbers."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchlab.cli.options import (
    FILES,
    add_json,
    add_models,
    add_stack,
    add_strict,
    add_suites,
    read_models,
    read_stack,
    read_suites,
    whole,
)
from patchlab.cli.output import emit, table, tell
from patchlab.cli.progress import shown
from patchlab.records import Report

if TYPE_CHECKING:
    from patchlab.cli.options import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "evaluate", allow_abbrev=False, help="measure a stack on suites",
        description="Draw replies of every lane on each suite and print the metrics with 95 % intervals. The suites of "
                    "public data sets read the prompts you give them. Ctrl-C loses no reply that went to --out; the same "
                    "command goes on.")
    add_models(parser)
    add_stack(parser)
    add_suites(parser, "suites to measure on (default: all embedded ones: toxicity, bias, refusal, overrefusal, fluency, drift, "
                       f"helpfulness). Other prompts by NAME={FILES}; so given, NAME may also be a public set: "
                       "realtoxicityprompts, xstest, harmbench, advbench, strongreject, jailbreakbench, simplesafetytests, "
                       "beavertails, winogender or bold")
    add_strict(parser)
    parser.add_argument("--n", type=whole(1), default=300, metavar="N", help="most prompts a file (default: 300)")
    parser.add_argument("--samples", type=whole(1), metavar="K", help="replies a prompt (default: what the suite says)")
    parser.add_argument("--max-new-tokens", type=whole(1), default=64, metavar="N",
                        help="longest reply in tokens; the share of replies cut there is reported (default: 64)")
    parser.add_argument("--judge", metavar="MODEL",
                        help="a model's folder or Hub id that says how natural and how much on the topic replies are "
                             "(default: the reference for base and patched, the base for the reference)")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="S",
                        help="the same seed gives the same figures (default: 0)")
    add_json(parser)
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="keep every reply there as it is finished (replies.jsonl), and write report.json, report.md "
                             "and report.html")
    parser.set_defaults(run=evaluate, refuse=parser.error)


def evaluate(args: argparse.Namespace) -> None:
    """Print the measures of a stack, and write the report where asked."""
    stack = read_stack(args)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)  # a folder that cannot be made is found out before the work
    from patchlab import evaluation
    from patchlab.engine import Sampling
    from patchlab.models import load_backbone

    suites = read_suites(args)
    judge = load_backbone(args.judge) if args.judge else None
    sampling = Sampling(seed=args.seed, max_new_tokens=args.max_new_tokens)
    steps = evaluation.evaluate(read_models(args), stack=stack, suites=suites, n=args.n, seed=args.seed, samples=args.samples,
                                sampling=sampling, judge=judge, out=args.out, strict=args.strict)
    try:
        for report in shown(steps):
            if args.out:
                evaluation.write_report(report, args.out)
            _print_report(report, json=args.json)
    except KeyboardInterrupt:
        kept = "; go on with the same command" if args.out else "; with --out nothing would be lost"
        raise KeyboardInterrupt(f"stopped{kept}") from None


def _print_report(report: Report, *, json: bool) -> None:
    from patchlab.evaluation import rows

    found = rows(report)
    if json:
        for row in found:
            emit(row)
        tell(note for note in report.notes if "skipped" in note)
        return
    print(table([("suite", "metric", "lane", "value", "95 % interval", "n", "scorer", "second scorer", "lane before"),
                 *map(_cells, found)]))
    tell(report.notes)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    second = f"{_figure(row['second'])} {row['second']['scorer']}" if "second" in row else ""
    versus = f"{row['versus']['difference']:+.3f}, p = {row['versus']['p']:.4f}" if _known(row.get("versus")) else ""
    interval = f"{row['low']:.3f} to {row['high']:.3f}" if row["low"] is not None else ""
    return (row["suite"], row["metric"], row["lane"], _figure(row), interval, str(row["n"]), row["scorer"], second, versus)


def _figure(row: Mapping[str, Any]) -> str:
    return f"{row['value']:.3f}" if row["value"] is not None else "none"


def _known(versus: Mapping[str, Any] | None) -> bool:
    return versus is not None and versus["p"] is not None
