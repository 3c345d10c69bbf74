"""Bind a patch to another base than its own: the one way past BaseMismatchError, and only ever by asking for it."""

from __future__ import annotations

from dataclasses import replace

from patchlab.errors import BaseMismatchError, InputError
from patchlab.models.backbone import Backbone
from patchlab.patches import Patch

SHOWN = 8  # digits of a fingerprint that a ported version carries
MARK = "port"


def ported(patch: Patch, base: Backbone) -> Patch:
    """The same prefix as a patch of `base`, without evidence: what it does there is to be measured.

    Its version is the old one with the build tag `port` and the new base's fingerprint: the prefix is no newer, it is for
    another base. Raises BaseMismatchError where the base's embeddings have another width, InputError where it fits as it is.
    """
    manifest = patch.manifest
    label = f"{manifest.name} {manifest.version}"
    if manifest.width != base.width:
        raise BaseMismatchError(f"patch {label} has embeddings of width {manifest.width}",
                                expected=f"width {base.width}, that of {base.name}", do="train a patch for this base")
    if not differences(patch, base):
        raise InputError(f"patch {label} was made for this very base, {base.name} ({base.identity.fingerprint[:12]})",
                         expected="another base", do="use the patch as it is")
    # a summary has an end; what is added to it may not be what is cut
    origin = f"Ported without training from {manifest.base.id} ({manifest.base.fingerprint[:12]})."
    summary = f"{manifest.summary[:1600].rstrip()} {origin}"
    return Patch(replace(manifest, version=_version(manifest.version, base.identity.fingerprint), summary=summary,
                         base=base.identity, evidence=(), files={}), patch.prefix)


def differences(patch: Patch, base: Backbone) -> tuple[str, ...]:
    """What of a base is not what the patch was made with: weights, tokenizer, chat template; empty where it fits."""
    old, new = patch.manifest.base, base.identity
    found = [(old.fingerprint not in base.fingerprints, "weights", old.fingerprint, new.fingerprint),
             (old.tokenizer_digest != new.tokenizer_digest, "tokenizer", old.tokenizer_digest, new.tokenizer_digest),
             (base.template_differs(old), "chat template", old.template_digest, new.template_digest)]
    return tuple(f"{what} {a[:12] or 'none'}, here {b[:12] or 'none'}" for differs, what, a, b in found if differs)


def _version(version: str, fingerprint: str) -> str:
    """1.0.0 becomes 1.0.0+port.<fingerprint>; an earlier port's tag is replaced, other build tags stay."""
    core, _, build = version.partition("+")
    tags = build.split(".") if build else []
    if MARK in tags:
        at = tags.index(MARK)
        del tags[at:at + 2]
    return f"{core}+{'.'.join([*tags, MARK, fingerprint.rpartition(':')[2][:SHOWN]])}"
