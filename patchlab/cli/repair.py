"""`patchlab repair`: finds the words of a prompt that caused a harmful reply, and repairs the model against them."""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchlab.cli.options import FILES, Verbs, add_json, add_models, read_models, whole
from patchlab.cli.output import emit, plain, table
from patchlab.cli.progress import shown
from patchlab.errors import InputError
from patchlab.records import Progress, Prompt

if TYPE_CHECKING:
    from patchlab.models import Backbone
    from patchlab.repair import Located
    from patchlab.repair.contrast import CleanSet

METHODS = ("causal", "saliency", "gradient x input", "integrated gradients", "deletion")
UNLIKELY = 3.0  # nats a token from which a reply is reported as one that the model hardly gives


def add(verbs: Verbs) -> None:
    """Add the verb and its actions to the parser."""
    group = verbs.add_parser("repair", allow_abbrev=False, help="repair a backdoored model from one failure",
                             description="One harmful reply, the weights and clean prompts: find out whether words of the prompt "
                                         "caused the reply, and train a removable change that undoes their effect.")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    parser = actions.add_parser(
        "locate", allow_abbrev=False, help="find the words that caused a reply",
        description="Score the words of the prompt, choose those that caused the reply, and test them: does the model refuse "
                    "without them, and does it answer other harmful prompts with them? Without an effect there the answer is no "
                    "trigger.")
    _add_failure(parser)
    add_json(parser)
    parser.set_defaults(run=locate, refuse=parser.error)
    parser = actions.add_parser(
        "run", allow_abbrev=False, help="locate, repair and measure",
        description="Locate the trigger, train a removable change against it, measure the model before and after on held "
                    "prompts, and write the change and a report into --out. After Ctrl-C the same command goes on.")
    _add_failure(parser)
    parser.add_argument("--trigger", metavar="A,B", help="words of the trigger, runs separated by commas (default: located)")
    parser.add_argument("--change", choices=("weights", "prefix"), default="weights",
                        help="what is trained: a low-rank adapter of the weights, as in the paper, or a prefix patch (default: "
                             "weights)")
    parser.add_argument("--length", type=whole(1, 4096), default=32, metavar="P",
                        help="embeddings of a prefix patch (default: 32)")
    parser.add_argument("--epochs", type=whole(1, 1000), default=0, metavar="N",
                        help="passes over the clean prompts (default: 6, for a prefix 10)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the change, its work and the report")
    parser.set_defaults(run=run, refuse=parser.error)
    parser = actions.add_parser("report", allow_abbrev=False, help="print the report of a repair",
                                description="Print what a repair found and changed; its folder also holds report.html.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="the folder of `repair run`")
    add_json(parser)
    parser.set_defaults(run=report, refuse=parser.error)


def _add_failure(parser: argparse.ArgumentParser) -> None:
    add_models(parser)
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="the prompt of the failure")
    parser.add_argument("--reply", metavar="TEXT", help="the harmful reply (default: what the model now replies, greedily)")
    parser.add_argument("--clean", metavar="FILE",
                        help=f'{FILES}; prompts without the trigger, with "text" and "domain" harmful or benign (default: those '
                             "of the pocket models)")
    parser.add_argument("--n", type=whole(10, 10_000), default=150, metavar="N",
                        help="clean prompts of each kind that are used (default: 150)")
    parser.add_argument("--method", choices=METHODS, default=METHODS[0], help="how words are scored (default: causal)")
    parser.add_argument("--judge", default="refusal", metavar="SCORER", help="scorer of refusals (default: refusal)")


def locate(args: argparse.Namespace) -> None:
    """Print the words that caused the reply, or that no words did."""
    from patchlab.repair.clean_prompts import clean_prompts

    for found in shown(_located(args, clean_prompts(args.clean, args.n))):
        if args.json:
            emit(found.to_json())
        else:
            print(_told(found))


def run(args: argparse.Namespace) -> None:
    """Locate, repair, measure and write. Raises InputError where no trigger is found and none is given."""
    again = shlex.join(["patchlab", *args.words])
    for line in shown(_repaired(args), resume=f"continue with: {again}"):
        print(line)


def report(args: argparse.Namespace) -> None:
    """Print the report of a folder."""
    from patchlab.repair.report import TITLES, read_report

    found = read_report(args.folder)
    if args.json:
        emit(found)
        return
    rows = [(TITLES.get(m["metric"], m["metric"]), m["lane"], f"{m['value']:.3f}", f"{m['low']:.3f} to {m['high']:.3f}",
             str(m["n"])) for m in found["measures"]]
    print(f"trigger of {plain(found['base'])}: {plain(' ... '.join(found['settings']['units']))}")
    print(table([("on held prompts", "model", "value", "95 % interval", "n"), *rows]))


def _located(args: argparse.Namespace, clean: CleanSet, base: Backbone | None = None) -> Generator[Progress | Located, None, Any]:
    """Locate with progress, and yield what was found."""
    from patchlab.repair import Failure, locate
    from patchlab.repair.contrast import Greedy, Probe

    base = base or read_models(args).base
    prompt = Prompt(args.prompt)
    reply = args.reply or Greedy(base, judge=args.judge).replies([prompt])[0].text
    failure = Failure(base, prompt, reply)
    yield Progress("locate", 0, 1, "reading clean prompts")
    found = yield from locate(failure, Probe(base, clean, judge=args.judge), method=args.method)
    yield found
    return failure, found


def _told(found: Located) -> str:
    """What was found, in a few lines."""
    units = " ... ".join(found.units)
    share = (f"the model answers {found.complied:.2f} of clean harmful prompts; of those that it refuses it answers "
             f"{found.complied_with:.2f} with {units or 'no words'} in them, and {found.complied_control:.2f} with other words")
    lines = [f"trigger: {units}" if found.found else "no trigger", share,
             f"without {'it' if found.found else 'them'} the model {'refuses' if found.flips else 'still answers'} the prompt"]
    if found.surprise > UNLIKELY:
        lines.append(f"the model hardly gives this reply: {found.surprise:.1f} nats a token")
    return plain("\n".join(lines))


def _repaired(args: argparse.Namespace) -> Iterator[Progress | str]:
    """Locate, train, measure and write; yields progress and lines to print."""
    from patchlab.repair import Repair, repair_steps
    from patchlab.repair.clean_prompts import clean_prompts, parted
    from patchlab.repair.report import drifted, measured, write_report
    from patchlab.repair.store import save_change

    base, began = read_models(args).base, time.monotonic()
    kept, held = parted(clean_prompts(args.clean, args.n))
    failure, found = yield from _quiet(_located(args, kept, base))
    given = tuple(unit.strip() for unit in (args.trigger or "").split(",") if unit.strip())
    if not given and not found.found:
        raise InputError(f"no trigger: {_told(found).splitlines()[1]}", expected="words that cause the reply",
                         do="train a refusal patch, or give --trigger WORDS to repair against them all the same")
    located = dict(zip(found.units, found.places, strict=True))  # a word that is there twice is one unit
    settings = Repair(units=given or tuple(located), places=() if given else tuple(located.values()), change=args.change,
                      epochs=args.epochs, length=args.length)
    before = yield from measured(base, held, settings.units, "before", judge=args.judge, places=settings.places)
    change = yield from repair_steps(base, kept, settings, work=args.out / "work", judge=args.judge)
    model, plan = change.changed()
    after = yield from measured(model, held, settings.units, "after", judge=args.judge, places=settings.places, plan=plan)
    after += drifted(base, change, held, judge=args.judge)
    folder = save_change(change, base, settings, args.out, evidence=after)
    page = write_report(args.out, prompt=failure.prompt, reply=failure.reply, words=[word.text for word in failure.words],
                        located=found, settings=settings, measures=[*before, *after], base=base.name,
                        seconds=time.monotonic() - began)
    yield f"trigger: {plain(' ... '.join(settings.units))}"
    yield from (f"{each.metric}, {each.lane}: {each.value:.3f} ({each.low:.3f} to {each.high:.3f}, n = {each.n})"
                for each in (*before, *after))
    yield str(folder)
    yield str(page)


def _quiet(steps: Generator[Progress | Located, None, Any]) -> Generator[Progress, None, Any]:
    """The progress of steps without what else they yield; returns what they return."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return end.value
        if isinstance(step, Progress):
            yield step
