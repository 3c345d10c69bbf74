"""`patchlab patches`: lists, shows, installs and verifies patches; gate, curve, matrix and port have modules of their own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from patchlab.cli import curve, gate, matrix, pin, transfer
from patchlab.cli.options import PATCH, Verbs, add_json, find_patch
from patchlab.cli.output import emit, measures_table, table
from patchlab.patches import Manifest, Patch
from patchlab.patches.compatibility import superseded_by
from patchlab.patches.interactions import label
from patchlab.patches.manifest import OPTIONAL
from patchlab.registry import Installed, default_registry
from patchlab.registry import install as install_folder
from patchlab.registry.index import home_folder


def add(verbs: Verbs) -> None:
    """Add the verbs to the parser."""
    group = verbs.add_parser("patches", allow_abbrev=False,
                             help="list, show, install, verify, pin, gate, measure and port patches",
                             description="Work with installed patches. Only gate, curve, matrix and port load models.")
    actions = group.add_subparsers(title="verbs", metavar="VERB", required=True)

    def verb(run: Callable[[argparse.Namespace], None], name: str, help: str, description: str) -> argparse.ArgumentParser:
        parser = actions.add_parser(name, allow_abbrev=False, help=help, description=description)
        parser.set_defaults(run=run)
        add_json(parser)
        return parser

    verb(list_all, "list", "list installed patches",
         "List every installed patch and which patches supersede it. Folders that cannot be read are reported on stderr.")
    verb(show, "show", "print a patch's manifest", "Print the manifest of an installed patch with its evidence."
         ).add_argument("name", metavar="NAME", help=PATCH)
    verb(install, "install", "verify and install a patch folder",
         "Verify a patch folder and copy it to $PATCHLAB_HOME/patches, by default ~/.patchlab/patches."
         ).add_argument("folder", type=Path, metavar="FOLDER", help="the patch's own folder")
    verb(verify, "verify", "verify a patch's files", "Check the digest, shape and format of every file of a patch."
         ).add_argument("patch", metavar="FOLDER_OR_NAME", help="the patch's own folder if it exists, else an installed patch")
    for module in (pin, gate, curve, matrix, transfer):
        module.add(actions)


def list_all(args: argparse.Namespace) -> None:
    """Print the installed patches, one per line."""
    registry = default_registry()
    installed = registry.list()
    for folder, reason in registry.broken:
        print(f"patchlab: {folder} cannot be used: {reason}", file=sys.stderr)
    manifests = [one.manifest for one in installed]
    newer = [[label(other) for other in superseded_by(manifest, manifests)] for manifest in manifests]
    if args.json:
        for one, names in zip(installed, newer, strict=True):
            emit(_row(one) | {"superseded_by": names})
    elif installed:
        rows = [(m.name, m.version, m.domain, f"{m.base.id} ({m.base.fingerprint[:12]})",
                 m.title + (f" (superseded by {', '.join(names)})" if names else ""))
                for m, names in zip(manifests, newer, strict=True)]
        print(table([("name", "version", "domain", "base", "title"), *rows]))
    else:
        print("patchlab: no patch is installed; train one with patchlab train, or run patchlab patches install FOLDER",
              file=sys.stderr)


def show(args: argparse.Namespace) -> None:
    """Print one installed patch's manifest."""
    one = find_patch(args.name)
    if args.json:
        emit(one.manifest.to_json() | {"folder": str(one.folder)})
    else:
        print(_page(one.manifest, one.folder))


def install(args: argparse.Namespace) -> None:
    """Install a patch folder. Raises PatchFormatError or TamperedError."""
    one = install_folder(args.folder, home_folder())
    _report(one, f"installed {one.manifest.name} {one.manifest.version} in {one.folder}", json=args.json)


def verify(args: argparse.Namespace) -> None:
    """Verify all files of a patch. Raises PatchFormatError or TamperedError."""
    path = Path(args.patch)
    folder = path if path.name != args.patch or path.is_dir() else find_patch(args.patch).folder
    one = Installed(folder, Patch.from_pretrained(folder).manifest)
    _report(one, f"{one.manifest.name} {one.manifest.version} in {folder} is intact: {len(one.manifest.files)} files match "
                 "their digests", json=args.json)


def _report(one: Installed, line: str, *, json: bool) -> None:
    if json:
        emit(_row(one))
    else:
        print(line)


def _row(one: Installed) -> dict[str, Any]:
    m = one.manifest
    return {"name": m.name, "version": m.version, "domain": m.domain, "title": m.title, "base": m.base.id,
            "fingerprint": m.base.fingerprint, "length": m.length, "strength": m.strength, "digest": m.digest,
            "folder": str(one.folder)}


def _page(m: Manifest, folder: Path) -> str:
    facts = [("domain", m.domain), ("base", f"{m.base.id} {m.base.revision}".strip()),
             ("fingerprint", m.base.fingerprint), ("reference", m.reference),
             ("prefix", f"{m.length} embeddings of width {m.width}"), ("strength", f"{m.strength:g}"),
             ("licence", m.licence), ("supersedes", ", ".join(m.supersedes)), ("conflicts", ", ".join(m.conflicts)),
             ("with", ", ".join(file for file in OPTIONAL if file in m.files)),
             ("recipe", m.recipe_digest), ("digest", m.digest), ("folder", str(folder))]
    evidence = measures_table(m.evidence) if m.evidence else "no evidence is recorded: measure the patch before relying on it"
    return "\n\n".join([f"{m.name} {m.version}: {m.title}\n{m.summary}", table([fact for fact in facts if fact[1]]), evidence])
