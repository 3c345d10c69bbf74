"""`patchlab train`: long work that can be stopped and gone on with."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from patchlab.cli.options import FILES, add_models, add_strict, read_models, whole
from patchlab.cli.output import tell
from patchlab.cli.progress import shown
from patchlab.errors import InputError, TrainingError
from patchlab.records import Pair, Progress, Prompt
from patchlab.rows import Rows
from patchlab.storage import ASSETS

if TYPE_CHECKING:
    from patchlab.cli.options import Verbs
    from patchlab.engine import Lab
    from patchlab.training.config import Recipe


def add(verbs: Verbs) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "train", allow_abbrev=False, help="make a patch",
        description="Train a patch for a domain and print the folder it was written to. Ctrl-C loses no finished "
                    "stage; the same command with --resume goes on.")
    parser.add_argument("domain", metavar="DOMAIN", help="what the patch is to improve: toxicity, bias or refusal")
    add_models(parser)
    parser.add_argument("--recipe", type=Path, metavar="F.yaml",
                        help="hyperparameters of the training (default: the domain's recipe in assets/recipes/alone, which needs "
                             "no other patch)")
    parser.add_argument("--prompts", metavar="FILE",
                        help=f'{FILES}; prompts with "text", "kind" and "domain" (default: those of the pocket models)')
    parser.add_argument("--pairs", metavar="FILE", help="train on these preference pairs instead of sampled replies: rows as for "
                        "--prompts, with the columns prompt, chosen and rejected (texts or messages)")
    add_strict(parser)
    parser.add_argument("--dev", metavar="FILE",
                        help="prompts for early stopping and calibration, if the recipe uses them (default: a tenth of the "
                             "training prompts is held out)")
    parser.add_argument("--judge", type=whole(0), default=100, metavar="N",
                        help="held-out prompts per suite for the evidence in the patch's manifest (default: 100; 0: no "
                             "evidence)")
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="folder of the patch; intermediate files go to DIR/work (default: runs/DOMAIN)")
    parser.add_argument("--resume", action="store_true", help="continue the training in DIR/work")
    parser.set_defaults(run=train, refuse=parser.error)


def train(args: argparse.Namespace) -> None:
    """Train, judge, then release the patch into `--out`."""
    out = args.out or Path("runs") / args.domain
    try:
        for folder in _train(args, out, out / "work"):
            print(folder)
    except KeyboardInterrupt:
        words = ["patchlab", *args.words, *([] if args.resume else ["--resume"])]
        raise KeyboardInterrupt(f"stopped; go on with: {shlex.join(words)}") from None


def _train(args: argparse.Namespace, out: Path, work: Path) -> Iterator[Path]:
    """Yield the released patch's folder; of several processes only the first reports and releases.

    Raises TrainingError for a work folder in use without --resume.
    """
    from patchlab.engine import Sampling
    from patchlab.evaluation.suites import read_prompts
    from patchlab.training.distributed import join
    from patchlab.training.preference_data import read_pairs

    recipe = _recipe(args.domain, args.recipe, ASSETS / "recipes" / "alone")
    notes: list[str] = []
    sources = [args.prompts or ASSETS / "suites" / "pocket" / "train.jsonl", *filter(None, [args.dev])]
    rows = [Rows(source, strict=args.strict, notes=notes) for source in sources]
    pairs: list[Pair] | None = None
    tally: Mapping[str, int] = {}
    if args.pairs:
        pairs, tally = read_pairs(args.pairs, domain=args.domain, strict=args.strict, notes=notes)
    processes = join()
    if processes.first and not args.resume and work.is_dir() and any(work.iterdir()):
        raise TrainingError(f"{work} holds earlier work", expected="an empty or new folder",
                            do="add --resume to go on with it, or choose another --out")
    lab = read_models(args, device=processes.device)
    room = Sampling(max_new_tokens=recipe.length + recipe.distance + recipe.behind + recipe.max_new_tokens)
    prompts, *dev = (read_prompts(each, check=lambda prompt: lab.check(prompt, sampling=room)) for each in rows)
    if processes.first:
        tell(notes)
    steps = _story(lab, recipe, prompts, dev=dev[0] if dev else [], pairs=pairs, out=out, work=work, judged=args.judge)
    if not processes.first:
        for _ in steps:
            pass
        return
    if tally:
        said = ", ".join(f"{count} {reason}" for reason, count in tally.items())
        steps = chain([Progress("read", sum(tally.values()), sum(tally.values()), f"{args.pairs}: {said}")], steps)
    yield from shown(steps)


def _story(lab: Lab, recipe: Recipe, prompts: list[Prompt], *, dev: list[Prompt], pairs: list[Pair] | None, out: Path,
           work: Path, judged: int) -> Iterator[Progress | Path]:
    """Train, judge and release; yields progress and, in the first process, at last the patch's folder."""
    from patchlab.training.distributed import join
    from patchlab.training.release import judge, release
    from patchlab.training.trainer import train as steps

    patch = yield from steps(lab, recipe, prompts, work=work, pairs=pairs, dev=dev)
    if join().first:
        evidence = (yield from judge(lab, patch, n=judged, seed=recipe.seed, folder=work / "unjudged")) if judged else []
        yield release(patch, out, evidence=evidence)


def _recipe(domain: str, given: Path | None, folder: Path) -> Recipe:
    """The recipe given, else the domain's own, else one of defaults only. Raises InputError for another domain's."""
    from patchlab.training.config import IMPROVES, Recipe, read_recipe

    # a name is looked up before it becomes part of a path
    own = folder / f"{domain}.yaml" if domain in IMPROVES else None
    path = given or (own if own and own.is_file() else None)
    recipe = read_recipe(path) if path else Recipe(domain=domain)
    if recipe.domain != domain:
        raise InputError(f"{path} is a recipe for {recipe.domain!r}", expected=f"one for {domain!r}",
                         do=f"train {recipe.domain}, or give another recipe")
    return recipe
