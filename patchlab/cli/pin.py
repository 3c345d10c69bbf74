"""`patchlab patches pin`: writes a client's stack into a profile, pinned to versions and digests."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from patchlab.cli.options import add_json, add_stack, read_stack
from patchlab.cli.output import emit
from patchlab.errors import InputError
from patchlab.patches.profile import Profile
from patchlab.patches.stack import common_strength
from patchlab.registry import lookup
from patchlab.validation import dump

if TYPE_CHECKING:
    Actions = argparse._SubParsersAction[argparse.ArgumentParser]


def add(actions: Actions) -> None:
    """Add the verb to the parser."""
    parser = actions.add_parser(
        "pin", allow_abbrev=False, help="write a stack into a profile, pinned to versions and digests",
        description="Write a client's stack into a profile: a small JSON file with the version, digest and strength of every "
                    "patch. --profile FILE uses it in place of --stack; a patch with another version or digest is then an error. "
                    "Visitors of a page choose among the profiles in $PATCHLAB_HOME/profiles.")
    parser.add_argument("file", type=Path, metavar="FILE", help="the profile to write")
    parser.add_argument("--name", metavar="NAME", help="name of the profile (default: the file's)")
    parser.add_argument("--fingerprint", metavar="HEX",
                        help="fingerprint of the base, or its beginning, where patches of several bases have the same name; "
                             "`patchlab patches list` prints it")
    add_stack(parser, profile=False)
    add_json(parser)
    parser.set_defaults(run=pin, refuse=parser.error)


def pin(args: argparse.Namespace) -> None:
    """Write the profile. Raises NotFoundError for a patch that is not installed, InputError for an empty stack."""
    stack = read_stack(args)
    if not stack.entries:
        raise InputError("an empty stack", expected="patches to pin", do="name them with --stack NAME,...")
    manifests = [lookup(entry.name, entry.version, base=args.fingerprint).manifest for entry in stack.entries]
    strengths = [manifest.strength if entry.strength is None else entry.strength
                 for entry, manifest in zip(stack.entries, manifests, strict=True)]
    if stack.mode == "sequential":  # which has one strength
        given = next((entry.strength for entry in stack.entries if entry.strength), None)
        shared = given or common_strength([each for each in strengths if each > 0])
        strengths = [shared if each > 0 else 0.0 for each in strengths]
    profile = Profile.of(args.name or args.file.stem, stack, manifests, strengths)
    profile.save(args.file)
    if args.json:
        emit(dump(profile))
    else:
        print(f"{args.file} pins {profile.stack} for the base {profile.base[:12]}")
