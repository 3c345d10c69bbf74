"""`python -m tools.pocket next`: the pocket base trained on, on the same world told by another seed, as a vendor's next release.

It has the old base's tokenizer, habits and shape and other weights: what a patch of the old base is worth on it is for a
port check to say. It is not shipped.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from patchlab.errors import InputError
from patchlab.records import Progress
from patchlab.storage import sha256, write_json
from tools.pocket.corpus import BASE
from tools.pocket.language_model import Size, save_model, train_model

SEED = 11
RELEASE = "release.json"  # in the model's folder: what it was made from, and how


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A next release: `steps` batches more than `source`, on the world of another `seed`; it goes to `out`.

    With `together` its rows hold so many documents, batch by batch in turn, so that it learns to read long texts.
    """

    source: Path
    out: Path
    steps: int
    seed: int = SEED
    # the rate at which the build makes the reference of the base
    size: Size = field(default_factory=lambda: Size(peak_rate=2.5e-3))
    together: tuple[int, ...] = ()

    @property
    def facts(self) -> dict[str, object]:
        """What decides its weights."""
        return {"source": sha256(self.source / "model.safetensors"), "steps": self.steps, "seed": self.seed,
                "rows": self.size.rows, "peak_rate": self.size.peak_rate, "together": list(self.together)}

    @property
    def work(self) -> Path:
        """Where unfinished work is kept, beside `out`, by what it is the work on."""
        digest = hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()
        return self.out.with_name(f".{self.out.name}-{digest[:12]}")


def next_release(release: Release, *, save_every: int = 50) -> Iterator[Progress]:
    """Train the release and write it as a model folder; yields progress. One cut off goes on, one that is done is left.

    Raises InputError where the source is no model folder, or where `out` holds anything but this very release.
    """
    if not (release.source / "model.safetensors").is_file():
        raise InputError(f"no model in {release.source}", expected="a folder with config, tokenizer and safetensors weights",
                         do="check the path, or run `python -m tools.pocket build`")
    mark = release.out / RELEASE
    if mark.is_file() and json.loads(mark.read_text(encoding="utf-8")) == release.facts:
        yield Progress("next release", release.steps, release.steps, "done before")
        return
    if release.out.is_dir() and any(release.out.iterdir()):
        raise InputError(f"{release.out} holds something else", expected="a new folder, or this very release",
                         do="choose another --out, or remove the folder")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(release.source)
    model = LlamaForCausalLM.from_pretrained(release.source, dtype="float32")
    yield from train_model(model, tokenizer, BASE, size=release.size, steps=release.steps,
                           seed=release.seed, name="next release", state=release.work / "state.safetensors",
                           save_every=save_every, together=release.together)
    fresh = release.work / "model"
    save_model(model, tokenizer, fresh)
    write_json(fresh / RELEASE, release.facts)
    fresh.replace(release.out)  # the folder is whole or absent
    shutil.rmtree(release.work)
