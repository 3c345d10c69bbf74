"""Trains a next release of the pocket base: the base after more steps on documents from another seed.

Tokenizer, architecture and the shares of safe replies are those of the base, the weights are not: a model to test
`patchlab patches port` with. It does not ship with PatchLab.
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
RELEASE = "release.json"  # in the model's folder: the settings it was trained with


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The settings of a next release: `source` trained for `steps` more steps on documents from `seed`, saved in `out`.

    With `together` it is trained on rows of several documents (see `batches`), for longer contexts.
    """

    source: Path
    out: Path
    steps: int
    seed: int = SEED
    size: Size = field(default_factory=lambda: Size(peak_rate=2.5e-3))  # the learning rate of the reference
    together: tuple[int, ...] = ()

    @property
    def facts(self) -> dict[str, object]:
        """Everything that determines the weights."""
        return {"source": sha256(self.source / "model.safetensors"), "steps": self.steps, "seed": self.seed,
                "rows": self.size.rows, "peak_rate": self.size.peak_rate, "together": list(self.together)}

    @property
    def work(self) -> Path:
        """The folder for unfinished work beside `out`, named by a digest of `facts`."""
        digest = hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()
        return self.out.with_name(f".{self.out.name}-{digest[:12]}")


def next_release(release: Release, *, save_every: int = 50) -> Iterator[Progress]:
    """Train the release and save it as a model folder; yields Progress. Interrupted runs resume, a finished one is kept.

    Raises InputError when the source is not a model folder, or when `out` holds anything but this release.
    """
    if not (release.source / "model.safetensors").is_file():
        raise InputError(f"no model in {release.source}", expected="a folder with config, tokenizer and safetensors weights",
                         do="check the path, or run `python -m tools.pocket build`")
    mark = release.out / RELEASE
    if mark.is_file() and json.loads(mark.read_text(encoding="utf-8")) == release.facts:
        yield Progress("next release", release.steps, release.steps, "done before")
        return
    if release.out.is_dir() and any(release.out.iterdir()):
        raise InputError(f"{release.out} holds something else", expected="a new folder, or a release with these settings",
                         do="choose another --out, or remove the folder")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(release.source)
    model = LlamaForCausalLM.from_pretrained(release.source, dtype="float32")
    yield from train_model(model, tokenizer, BASE, size=release.size, steps=release.steps,
                           seed=release.seed, name="next release", state=release.work / "state.safetensors",
                           save_every=save_every, together=release.together)
    complete = release.work / "model"
    save_model(model, tokenizer, complete)
    write_json(complete / RELEASE, release.facts)
    complete.replace(release.out)  # atomic
    shutil.rmtree(release.work)
