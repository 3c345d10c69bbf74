"""`patchlab patches`: lists installed patches, shows a patch's manifest, installs a patch, and verifies its digests."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchlab.cli import curve, gate, matrix, transfer
from patchlab.cli.options import add_json
from patchlab.cli.output import emit, table
from patchlab.patches import Manifest, Patch
from patchlab.patches.compatibility import superseded_by
from patchlab.patches.interactions import label
from patchlab.patches.manifest import OPTIONAL
from patchlab.registry import Installed, default_registry, lookup
from patchlab.registry import install as install_folder
from patchlab.registry.index import home_folder

if TYPE_CHECKING:
    from patchlab.cli.options import Verbs


def add(verbs: Verbs) -> None:
    """Add the verbs to the parser."""
    patches = verbs.add_parser("patches", allow_abbrev=False, help="list, show, install, verify, compare, gate and port patches",
                               description="The patches at hand. Only gate, curve, matrix and port load models.")
    actions = patches.add_subparsers(title="verbs", metavar="VERB", required=True)
    parser = actions.add_parser("list", allow_abbrev=False, help="every installed patch",
                                description="List every installed patch, and which another one supersedes; folders that "
                                            "cannot be used go to stderr.")
    parser.set_defaults(run=list_all)
    add_json(parser)
    parser = actions.add_parser("show", allow_abbrev=False, help="show a patch's manifest",
                                description="Print the manifest of an installed patch, with its evidence.")
    parser.add_argument("name", metavar="NAME", help="an installed patch, as NAME or NAME@VERSION")
    parser.set_defaults(run=show)
    add_json(parser)
    parser = actions.add_parser("install", allow_abbrev=False, help="check a patch folder and install it",
                                description="Check a patch folder and copy it to $PATCHLAB_HOME/patches, or "
                                            "~/.patchlab/patches where that is not set.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a patch's own folder")
    parser.set_defaults(run=install)
    add_json(parser)
    parser = actions.add_parser("verify", allow_abbrev=False, help="check a patch's bytes",
                                description="Check every file of a patch against its digests, shape and format.")
    parser.add_argument("patch", metavar="FOLDER_OR_NAME",
                        help="a patch's own folder where there is one of that name, else an installed patch")
    parser.set_defaults(run=verify)
    add_json(parser)
    gate.add(actions)
    curve.add(actions)
    matrix.add(actions)
    transfer.add(actions)


def list_all(args: argparse.Namespace) -> None:
    """Print the installed patches, one a line."""
    registry = default_registry()
    found = registry.list()
    for folder, reason in registry.broken:
        print(f"patchlab: {folder} cannot be used: {reason}", file=sys.stderr)
    manifests = [one.manifest for one in found]
    newer = [[label(other) for other in superseded_by(manifest, manifests)] for manifest in manifests]
    if args.json:
        for one, names in zip(found, newer, strict=True):
            emit(_row(one) | {"superseded_by": names})
    elif found:
        rows = [(m.name, m.version, m.domain, f"{m.base.id} ({m.base.fingerprint[:12]})",
                 m.title + (f" (superseded by {', '.join(names)})" if names else ""))
                for m, names in zip(manifests, newer, strict=True)]
        print(table([("name", "version", "domain", "base", "title"), *rows]))
    else:
        print("patchlab: no patch is installed; make one with patchlab train, or patchlab patches install FOLDER",
              file=sys.stderr)


def show(args: argparse.Namespace) -> None:
    """Print one installed patch's manifest."""
    one = _find(args.name)
    if args.json:
        emit(one.manifest.to_json() | {"folder": str(one.folder)})
    else:
        print(_page(one))


def install(args: argparse.Namespace) -> None:
    """Install a patch folder."""
    one = install_folder(args.folder, home_folder())
    _report(args, one, f"installed {one.manifest.name} {one.manifest.version} in {one.folder}")


def verify(args: argparse.Namespace) -> None:
    """Check all of a patch. Raises PatchFormatError or TamperedError."""
    path = Path(args.patch)
    separated = path.name != args.patch
    folder = path if separated or path.is_dir() else _find(args.patch).folder
    one = Installed(folder, Patch.from_pretrained(folder).manifest)
    _report(args, one, f"{one.manifest.name} {one.manifest.version} in {folder} is whole: "
                       f"{len(one.manifest.files)} files as their digests say")


def _find(text: str) -> Installed:
    name, _, version = text.partition("@")
    return lookup(name, version or None)


def _report(args: argparse.Namespace, one: Installed, line: str) -> None:
    if args.json:
        emit(_row(one))
    else:
        print(line)


def _row(one: Installed) -> dict[str, Any]:
    m = one.manifest
    return {"name": m.name, "version": m.version, "domain": m.domain, "title": m.title, "base": m.base.id,
            "fingerprint": m.base.fingerprint, "length": m.length, "strength": m.strength, "digest": m.digest,
            "folder": str(one.folder)}


def _page(one: Installed) -> str:
    m = one.manifest
    facts = [("domain", m.domain), ("base", f"{m.base.id} {m.base.revision}".strip()),
             ("fingerprint", m.base.fingerprint), ("reference", m.reference),
             ("prefix", f"{m.length} embeddings of width {m.width}"), ("strength", f"{m.strength:g}"),
             ("licence", m.licence), ("supersedes", ", ".join(m.supersedes)), ("conflicts", ", ".join(m.conflicts)),
             ("with", ", ".join(file for file in OPTIONAL if file in m.files)),
             ("recipe", m.recipe_digest), ("digest", m.digest), ("folder", str(one.folder))]
    pages = [f"{m.name} {m.version}: {m.title}\n{m.summary}", table([fact for fact in facts if fact[1]])]
    pages.append(_evidence(m) if m.evidence else "no evidence is recorded: measure it before relying on it")
    return "\n\n".join(pages)


def _evidence(manifest: Manifest) -> str:
    rows = [(e.suite, e.metric, e.lane, f"{e.value:.3f}", f"{e.low:.3f} to {e.high:.3f}", str(e.n), e.scorer)
            for e in manifest.evidence]
    return table([("suite", "metric", "lane", "value", "95 % interval", "n", "scorer"), *rows])
