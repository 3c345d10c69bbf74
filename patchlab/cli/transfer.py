"""`patchlab patches port`: measures how much of a patch's effect remains on another base, and can write it for that base."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from patchlab.cli.evaluate import NOT_KEPT, RESUME
from patchlab.cli.options import Verbs, add_json, add_measuring, find_patch
from patchlab.cli.output import emit, measures_table, plain
from patchlab.cli.progress import shown
from patchlab.errors import InputError, NotFoundError
from patchlab.patches import Patch
from patchlab.storage import write_json

if TYPE_CHECKING:
    from patchlab.evaluation.transfer import PortCheck
    from patchlab.models import Backbone

CHECK = "port.json"


def add(verbs: Verbs) -> None:
    """Add the verb to the parser of `patches`."""
    parser = verbs.add_parser(
        "port", allow_abbrev=False, help="measure a patch on another base than its own",
        description="Measure on held-out prompts how much of a patch's effect remains on another base and what it costs there, "
                    "and print a verdict. With --accept the patch is written for the new base, with these measures as its "
                    "evidence; no other verb puts a patch on a base it was not made for. MODEL is a preset, a model folder or a "
                    "Hub id.")
    parser.add_argument("patch", metavar="PATCH",
                        help="the patch's own folder if it exists, else an installed patch, as NAME or NAME@VERSION")
    parser.add_argument("--base", required=True, metavar="MODEL", help="the new base")
    parser.add_argument("--made-for", default="pocket", metavar="MODEL", help="the patch's own base (default: pocket)")
    parser.add_argument("--reference", metavar="MODEL", help="a safer model to report beside both bases (default: none)")
    add_measuring(parser, n=300)
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"folder for every reply and {CHECK}")
    parser.add_argument("--accept", action="store_true",
                        help="if at least part of the effect remains, write the patch for the new base into --out; its version "
                             "gets the build tag +port and the first digits of the new base's fingerprint")
    add_json(parser)
    parser.set_defaults(run=port, refuse=parser.error)


def port(args: argparse.Namespace) -> None:
    """Measure, print, and write what --out and --accept ask for. Raises InputError if --accept is given and no effect remains."""
    if args.accept and not args.out:
        args.refuse("--accept needs --out DIR to write the patch into")
    patch = _read_patch(args.patch)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    from patchlab.engine import Planner
    from patchlab.evaluation.transfer import check_port

    made_for, base = _model(args.made_for, "base"), _model(args.base, "base")
    patch = patch or Planner(made_for).patch(args.patch)
    reference = _model(args.reference, "reference", base) if args.reference else None
    steps = check_port(patch, made_for=made_for, base=base, reference=reference, n=args.n, seed=args.seed, out=args.out)
    for check in shown(steps, resume=RESUME if args.out else NOT_KEPT):
        _print(check, json=args.json)
        if args.out:
            write_json(args.out / CHECK, check.to_json())
        if args.accept:
            _accept(check, args.out, json=args.json)


def _read_patch(text: str) -> Patch | None:
    """The patch of a folder or of NAME@VERSION; None for a NAME, whose version depends on the base.

    Raises NotFoundError or PatchFormatError before any model is loaded.
    """
    path = Path(text)
    if path.name != text or path.is_dir():
        return Patch.from_pretrained(path)
    installed = find_patch(text)
    return Patch.from_pretrained(installed.folder) if "@" in text else None


def _model(text: str, lane: str, base: Backbone | None = None) -> Backbone:
    """The base or reference of a preset, else the model, or the adapter of `base`, of a folder or Hub id.

    Raises NotFoundError, ModelError, BaseMismatchError.
    """
    from patchlab.models import PRESETS, load_backbone, load_reference, preset

    if not Path(text).exists() and text not in PRESETS and "/" not in text:
        raise NotFoundError.of("preset or model folder", text, PRESETS)
    source = text if Path(text).exists() or text not in PRESETS else preset(text).source(lane)
    return load_reference(source, base) if base else load_backbone(source)


def _accept(check: PortCheck, out: Path, *, json: bool) -> None:
    if not check.verdict.holds:
        raise InputError(f"a port check with the verdict {check.verdict.word!r}", expected="an effect that remains",
                         do="train a patch for this base")
    folder = check.patch.save_pretrained(out / check.patch.manifest.folder_name)
    if json:
        emit({"accepted": str(folder)})
    else:
        print(f"written for the new base: {folder}")


def _print(check: PortCheck, *, json: bool) -> None:
    if json:
        values = check.to_json()
        for row in (*values["measures"], *values["effects"]):
            emit(row)
        emit({key: values[key] for key in ("patch", "version", "verdict", "why", "differences")})
        return
    print(measures_table((*check.measures, *check.effects)))
    for difference in check.differences:
        print(f"differs from the patch's own base: {plain(difference)}")
    print(f"\n{check.verdict.word}: {plain(check.verdict.why)}")
