"""The two trainings of SmolLM2-135M-Instruct: its safer release, and the patches that lead the base towards it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from patchlab.engine import Lab
from patchlab.errors import InputError
from patchlab.models import load_backbone
from patchlab.models.adapter import pin
from patchlab.models.converted import converted
from patchlab.models.machine import native_dtype
from patchlab.models.open_weights import SMOLLM2
from patchlab.records import Progress
from patchlab.training.candidates import read_candidates
from tools.smollm2.patches import patch
from tools.smollm2.reference import ReferenceTrainer, merged
from tools.smollm2.reference_data import examples, gathered
from tools.smollm2.release import released


def reference(data: Path, work: Path, begin: Path | None = None) -> Iterator[Progress]:
    """Train the safer release, from the adapter `begin` on, into `work`/reference. Resumes.

    Weights are bfloat16 where the processor multiplies it natively, which is three times as fast; what is trained is float32.
    """
    folder, drawn = converted(SMOLLM2), work / "reference-work"
    base = load_backbone(folder, device="cpu", dtype=native_dtype())
    drawn.mkdir(parents=True, exist_ok=True)
    yield from gathered(Lab(base), data, drawn)
    trainer = ReferenceTrainer(base, folder, examples(data, drawn), drawn, begin=begin)
    yield from trainer.sft()
    yield from trainer.dpo()
    trainer.save(work / "reference")
    pin(work / "reference", base)


def released_patch(name: str, data: Path, work: Path, begin: Path | None = None,
                   gates: Path | None = None) -> Iterator[Progress]:
    """Train a patch, with gate and strength, into `work`/patches; the reference has to be there. Yields progress; resumes.

    `begin` is a folder of patches that a refusal patch may go on from, `gates` one whose gate of this name is kept.
    """
    base = load_backbone(converted(SMOLLM2), device="cpu", dtype=native_dtype())
    if not (work / "reference").is_dir():
        raise InputError(f"no reference in {work}", expected="the folder that the reference was trained in",
                         do="train it first: python -m tools.smollm2 reference")
    folder = merged(converted(SMOLLM2), work / "reference", work / "smollm2-reference")
    lab = Lab(base, load_backbone(folder, device="cpu", dtype=native_dtype()))
    (work / "reference-work").mkdir(exist_ok=True)
    yield from gathered(lab, data, work / "reference-work", only=("held", "calm"))  # a gate reads the first as earlier turns
    trained = yield from patch(name, lab, data, work, begin)
    said = [each for each in read_candidates(work / "reference-work" / "held.jsonl") if each.text.strip()]
    yield from released(name, lab, trained, data, said, work / "patches", gates)
