"""`patchlab train`: trains a patch; after Ctrl-C, --resume continues from the last finished stage."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from patchlab.cli.options import FILES, Verbs, add_models, add_strict, read_models, whole
from patchlab.cli.output import tell
from patchlab.cli.progress import shown
from patchlab.errors import InputError, TrainingError
from patchlab.records import Pair, Progress
from patchlab.rows import Rows
from patchlab.storage import ASSETS

if TYPE_CHECKING:
    from patchlab.training.config import Recipe


def add(verbs: Verbs) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "train", allow_abbrev=False, help="train a patch",
        description="Train a patch for a domain and print its folder. Finished stages are kept after Ctrl-C; the same command "
                    "with --resume continues.")
    parser.add_argument("domain", metavar="DOMAIN", help="what the patch improves: toxicity, bias or refusal")
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
    """Train, measure and write the patch into --out; of several processes only the first prints and writes.

    Raises TrainingError for a work folder in use without --resume.
    """
    from patchlab.training.distributed import join

    out = args.out or Path("runs") / args.domain
    command = shlex.join(["patchlab", *args.words, *([] if args.resume else ["--resume"])])
    steps = _steps(args, out, out / "work")
    for folder in shown(steps, resume=f"continue with: {command}") if join().first else steps:
        if isinstance(folder, Path):
            print(folder)


def _steps(args: argparse.Namespace, out: Path, work: Path) -> Iterator[Progress | Path]:
    """Yield progress and, in the first process, finally the folder of the patch."""
    from patchlab.engine import Sampling
    from patchlab.evaluation.suites import read_prompts
    from patchlab.training.distributed import join
    from patchlab.training.preference_data import read_pairs
    from patchlab.training.release import judge, release
    from patchlab.training.trainer import train as train_steps

    recipe = _recipe(args.domain, args.recipe, ASSETS / "recipes" / "alone")
    notes: list[str] = []
    sources = [args.prompts or ASSETS / "suites" / "pocket" / "train.jsonl", *filter(None, [args.dev])]
    rows = [Rows(source, strict=args.strict, notes=notes) for source in sources]
    pairs: list[Pair] | None = None
    tally: Mapping[str, int] = {}
    if args.pairs:
        pairs, tally = read_pairs(args.pairs, domain=args.domain, strict=args.strict, notes=notes)
    process = join()
    if process.first and not args.resume and work.is_dir() and any(work.iterdir()):
        raise TrainingError(f"{work} holds earlier work", expected="an empty or new folder",
                            do="add --resume to continue it, or choose another --out")
    lab = read_models(args, device=process.device)
    room = Sampling(max_new_tokens=recipe.length + recipe.distance + recipe.behind + recipe.max_new_tokens)
    prompts, *dev = (read_prompts(each, check=lambda prompt: lab.check(prompt, sampling=room)) for each in rows)
    if process.first:
        tell(notes)
    if tally:
        counts = ", ".join(f"{count} {reason}" for reason, count in tally.items())
        yield Progress("read", sum(tally.values()), sum(tally.values()), f"{args.pairs}: {counts}")
    patch = yield from train_steps(lab, recipe, prompts, work=work, pairs=pairs, dev=dev[0] if dev else [])
    if process.first:
        evidence = (yield from judge(lab, patch, n=args.judge, seed=recipe.seed, folder=work / "unjudged")) if args.judge else []
        yield release(patch, out, evidence=evidence)


def _recipe(domain: str, given: Path | None, folder: Path) -> Recipe:
    """The given recipe, else that of the domain in `folder`, else the default values. Raises InputError for another domain's."""
    from patchlab.training.config import IMPROVES, Recipe, read_recipe

    # only a known domain may become part of a path
    default = folder / f"{domain}.yaml" if domain in IMPROVES else None
    path = given or (default if default and default.is_file() else None)
    recipe = read_recipe(path) if path else Recipe(domain=domain)
    if recipe.domain != domain:
        raise InputError(f"{path} is a recipe for {recipe.domain!r}", expected=f"one for {domain!r}",
                         do=f"train {recipe.domain}, or give another recipe")
    return recipe
