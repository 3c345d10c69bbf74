"""`patchlab patches port`: what a patch made for one base still does on another, and only if asked a patch for that one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from patchlab.cli.options import add_json, whole
from patchlab.cli.output import emit, plain, table
from patchlab.cli.progress import shown
from patchlab.errors import InputError, NotFoundError
from patchlab.patches import Patch
from patchlab.registry import lookup
from patchlab.storage import write_json

if TYPE_CHECKING:
    from patchlab.cli.options import Verbs
    from patchlab.evaluation.transfer import PortCheck
    from patchlab.models import Backbone

CHECK = "port.json"


def add(verbs: Verbs) -> None:
    """Add the verb to the parser of `patches`."""
    parser = verbs.add_parser(
        "port", allow_abbrev=False, help="check what a patch of one base does on another",
        description="Measure, on held-out prompts, how much of a patch's effect survives on another base than its own, what "
                    "it costs there, and say in a word what that comes to. Nothing else in PatchLab puts a patch on another "
                    "base. With --accept the patch is written for the new base, with what was measured on it as evidence. "
                    "MODEL is a preset, a model's folder or a Hub id.")
    parser.add_argument("patch", metavar="PATCH",
                        help="a patch's own folder where there is one of that name, else an installed patch, as NAME or "
                             "NAME@VERSION")
    parser.add_argument("--base", required=True, metavar="MODEL", help="the base to try it on")
    parser.add_argument("--made-for", default="pocket", metavar="MODEL",
                        help="the base the patch was made for, to compare with (default: pocket)")
    parser.add_argument("--reference", metavar="MODEL",
                        help="a safer model whose rates are to stand beside (default: none)")
    parser.add_argument("--n", type=whole(1), default=300, metavar="N", help="most prompts a file (default: 300)")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="S",
                        help="the same seed gives the same figures (default: 0)")
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help=f"keep every reply there as it is finished, and write {CHECK}")
    parser.add_argument("--accept", action="store_true",
                        help="write the patch for the new base into --out, where its effect is kept at least in part; its "
                             "version is the old one with the tag +port and the new base's fingerprint")
    add_json(parser)
    parser.set_defaults(run=port, refuse=parser.error)


def port(args: argparse.Namespace) -> None:
    """Check, print, and write what was asked for. Raises InputError where --accept finds nothing that survived."""
    if args.accept and not args.out:
        args.refuse("--accept needs --out DIR to write the patch into")
    found = _found(args.patch)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    from patchlab.engine import Planner
    from patchlab.evaluation.transfer import check_port

    made_for, base = _model(args.made_for, "base"), _model(args.base, "base")
    patch = found if isinstance(found, Patch) else Planner(made_for).patch(found)
    reference = _model(args.reference, "reference") if args.reference else None
    steps = check_port(patch, made_for=made_for, base=base, reference=reference, n=args.n, seed=args.seed, out=args.out)
    try:
        for check in shown(steps):
            _print(check, json=args.json)
            if args.out:
                write_json(args.out / CHECK, check.to_json())
            if args.accept:
                _accept(check, args.out, json=args.json)
    except KeyboardInterrupt:
        kept = "; go on with the same command" if args.out else "; with --out nothing would be lost"
        raise KeyboardInterrupt(f"stopped{kept}") from None


def _found(text: str) -> Patch | str:
    """The patch, or the name of one of whose versions its base decides; what cannot be had is said before models load."""
    path = Path(text)
    if path.name != text or path.is_dir():
        return Patch.from_pretrained(path)
    name, _, version = text.partition("@")
    found = lookup(name, version or None)
    return Patch.from_pretrained(found.folder) if version else name


def _model(text: str, lane: str) -> Backbone:
    """The base or reference of a preset, else the model of a folder or Hub id. Raises NotFoundError, ModelError."""
    from patchlab.models import PRESETS, load_backbone, preset

    if not Path(text).exists() and text not in PRESETS and "/" not in text:
        raise NotFoundError.of("preset or model folder", text, PRESETS)
    return load_backbone(text if Path(text).exists() or text not in PRESETS else preset(text).source(lane))


def _accept(check: PortCheck, out: Path, *, json: bool) -> None:
    if not check.verdict.holds:
        raise InputError(f"a port check that says {check.verdict.word!r}", expected="an effect that survived, to accept",
                         do="train a patch for this base")
    folder = check.patch.save_pretrained(out / check.patch.manifest.folder_name)
    if json:
        emit({"accepted": str(folder)})
    else:
        print(f"written for the new base: {folder}")


def _print(check: PortCheck, *, json: bool) -> None:
    found = check.to_json()
    if json:
        for row in (*found["measures"], *found["effects"]):
            emit(row)
        emit({key: found[key] for key in ("patch", "version", "verdict", "why", "differences")})
        return
    rows = [(m.suite, m.metric, m.lane, f"{m.value:.3f}", f"{m.low:.3f} to {m.high:.3f}", str(m.n), m.scorer)
            for m in (*check.measures, *check.effects)]
    print(table([("suite", "metric", "lane", "value", "95 % interval", "n", "scorer"), *rows]))
    for difference in check.differences:
        print(f"made with other {plain(difference)}")
    print(f"\n{check.verdict.word}: {plain(check.verdict.why)}")
