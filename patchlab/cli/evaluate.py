"""`patchlab evaluate`: the metrics of a stack on whole suites."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from patchlab.cli import options
from patchlab.cli.output import emit, table, tell
from patchlab.cli.progress import shown
from patchlab.records import Report

RESUME = "repeat the same command to continue"
NOT_KEPT = "without --out no reply was kept"


def add(verbs: options.Verbs) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "evaluate", allow_abbrev=False, help="measure a stack on suites",
        description="Generate replies of every lane on each suite and print the metrics with 95 % intervals. After Ctrl-C the "
                    "same command with the same --out continues from the replies that are kept there.")
    options.add_models(parser)
    options.add_stack(parser)
    parser.add_argument("--second-profile", type=Path, metavar="FILE",
                        help="the stack of a second client, pinned by `patchlab patches pin`, on a lane of its own")
    parser.add_argument("--suite", metavar="NAME,...",
                        help="suites to measure on (default: all embedded ones: toxicity, bias, refusal, overrefusal, fluency, "
                             "drift, helpfulness). NAME=FILE uses other prompts; the public data sets realtoxicityprompts, "
                             "xstest, harmbench, advbench, strongreject, jailbreakbench, simplesafetytests, beavertails, "
                             f"winogender and bold need one, as does prompts, for prompts of your own. {options.FILES}")
    options.add_strict(parser)
    options.add_measuring(parser, n=300)
    parser.add_argument("--samples", type=options.whole(1), metavar="K", help="replies per prompt (default: that of the suite)")
    parser.add_argument("--max-new-tokens", type=options.whole(1), default=64, metavar="N",
                        help="maximum length of a reply in tokens; the share of replies cut there is reported (default: 64)")
    parser.add_argument("--judge", metavar="MODEL",
                        help="model, as a folder or Hub id, that computes perplexity and whether a reply is on topic (default: "
                             "the reference for base and patched, the base for the reference)")
    options.add_json(parser)
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="folder for every reply (replies.jsonl), report.json, report.md and report.html")
    parser.set_defaults(run=evaluate, refuse=parser.error)


def evaluate(args: argparse.Namespace) -> None:
    """Print the measures of a stack, and write the report if --out is given."""
    stack, others = options.read_stack(args), options.read_second(args)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)  # a folder that cannot be made is an error before the work
    from patchlab import evaluation
    from patchlab.engine import Sampling
    from patchlab.models import load_backbone

    suites = options.read_suites(args)
    judge = load_backbone(args.judge) if args.judge else None
    sampling = Sampling(seed=args.seed, max_new_tokens=args.max_new_tokens)
    steps = evaluation.evaluate(options.read_models(args), stack=stack, others=others, suites=suites, n=args.n,
                                seed=args.seed, samples=args.samples, sampling=sampling, judge=judge, out=args.out,
                                strict=args.strict)
    for report in shown(steps, resume=RESUME if args.out else NOT_KEPT):
        if args.out:
            evaluation.write_report(report, args.out)
        _print_report(report, json=args.json)


def _print_report(report: Report, *, json: bool) -> None:
    from patchlab.evaluation import rows

    if json:
        for row in rows(report):
            emit(row)
        tell(note for note in report.notes if "skipped" in note)
        return
    print(table([("suite", "metric", "lane", "value", "95 % interval", "n", "scorer", "second scorer", "lane before"),
                 *map(_cells, rows(report))]))
    tell(report.notes)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    interval = f"{row['low']:.3f} to {row['high']:.3f}" if row["low"] is not None else ""
    second = f"{_value(row['second'])} {row['second']['scorer']}" if "second" in row else ""
    versus = row.get("versus", {"p": None})
    compared = f"{versus['difference']:+.3f}, p = {versus['p']:.4f}" if versus["p"] is not None else ""
    return row["suite"], row["metric"], row["lane"], _value(row), interval, str(row["n"]), row["scorer"], second, compared


def _value(row: Mapping[str, Any]) -> str:
    return f"{row['value']:.3f}" if row["value"] is not None else "none"
