"""`patchlab doctor`: what this machine has and which presets it can run."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from patchlab.cli.options import Verbs, add_json
from patchlab.cli.output import emit, plain, table


def add(verbs: Verbs) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "doctor", allow_abbrev=False, help="say what this machine can run",
        description="Print cores, memory and GPU; the packages found and what is missing with its pip line; the presets with the "
                    "memory they need, their licence and what they need first; the judges; and the cache of converted weights. "
                    "Nothing is loaded or downloaded.")
    add_json(parser)
    parser.set_defaults(run=doctor)


def doctor(args: argparse.Namespace) -> None:
    """Print the facts, as text or as one JSON object."""
    from patchlab.models.machine import facts

    found = facts() | {"judges": judges()}
    if args.json:
        emit(found)
    else:
        print("\n\n".join(plain(part) for part in (_machine(found), _packages(found), _presets(found), _judges(found),
                                                  _cache(found["cache"]))))


def judges() -> list[dict[str, Any]]:
    """The scorers that work here without a download, and those that need the encoder's package."""
    from patchlab.scoring.encoder import LABELS
    from patchlab.scoring.models import KINDS
    from patchlab.scoring.sentence_encoder import PIP, encoder_folder

    there = encoder_folder() is not None
    return [*({"name": name, "available": True, "do": ""} for name in KINDS),
            *({"name": name, "available": there, "do": "" if there else PIP} for name in LABELS)]


def _machine(found: Mapping[str, Any]) -> str:
    return table([("machine", ""), ("  python", found["python"]), ("  cores", str(found["cores"])),
                  ("  memory", f"{found['memory_gb']:g} GB, {found['free_gb']:g} GB free"), ("  gpu", found["gpu"] or "none")])


def _packages(found: Mapping[str, Any]) -> str:
    return table([("packages", "", ""), *((f"  {each['name']}", each["version"] or "missing",
                                           each["for"] + ("" if each["version"] else f": {each['pip']}"))
                                          for each in found["packages"])])


def _presets(found: Mapping[str, Any]) -> str:
    rows = []
    for each in found["presets"]:
        state = "ready" if each["installed"] else f"needs {each['needs']}"
        rows.append((f"  {each['name']}", f"{each['memory_gb']:.1f} GB", "fits" if each["fits"] else "too large",
                     each["licence"] + (" (gated)" if each["gated"] else ""),
                     state + ("" if each["has_reference"] else "; without its reference")))
    return table([("presets", "memory", "", "licence", ""), *rows])


def _judges(found: Mapping[str, Any]) -> str:
    return table([("judges", ""), *((f"  {each['name']}", "ready" if each["available"] else f"needs {each['do']}")
                                    for each in found["judges"])])


def _cache(cache: Mapping[str, Any]) -> str:
    held = [(f"  {each['name']}", f"{each['bytes'] / 1e6:,.0f} MB" + ("" if each["whole"] else ", changed: will be made again"))
            for each in cache["entries"]]
    return table([("cache", ""), ("  folder", cache["folder"]), ("  free", f"{cache['free_bytes'] / 1e9:,.0f} GB"),
                  *(held or [("  empty", "")])])
