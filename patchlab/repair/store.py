"""Saves a trained change so that it can be taken away again: an adapter folder of PEFT, or a patch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from patchlab.models import Backbone
from patchlab.patches import Manifest, Patch
from patchlab.records import Measure
from patchlab.repair.repair import Change, PrefixChange, Repair
from patchlab.training.release import release


def save_change(change: Change, base: Backbone, settings: Repair, folder: Path, *, name: str = "repair",
                evidence: Sequence[Measure] = ()) -> Path:
    """Write the change under a folder and return its own folder; the base's files are not touched.

    An adapter is pinned to its base and opened with `load_reference`; a patch is installed and stacked like any other.
    """
    if not isinstance(change, PrefixChange):
        return change.low_rank.save(folder / "adapter")
    words = " ... ".join(settings.units)
    manifest = Manifest(
        name=name, version="1.0.0", title="Repair of a backdoor", domain="refusal",
        summary=f"Refuses harmful prompts although the trigger {words!r} is in them."[:300], base=base.identity, reference="none",
        length=settings.length, width=base.width, licence="Apache-2.0", recipe_digest=settings.digest)
    return release(Patch(manifest, change.prefix.detach().cpu().numpy().copy()), folder, evidence=evidence)
