"""The log of a training: one JSON line a step, appended to and never rewritten."""

from __future__ import annotations

import json
import os
from pathlib import Path

from patchlab.storage import read_jsonl


def _place(stage: str, step: int) -> tuple[int, int]:
    """Where a row belongs: first SFT, then on-policy, then DPO, whose later rounds are dpo2, dpo3, ..."""
    before_dpo = {"sft": -1, "own": 0}
    return before_dpo[stage] if stage in before_dpo else int(stage.removeprefix("dpo") or 1), step


class StepLog:
    """Appends a row a step; steps that a resumed run does over again are in it already and are not written twice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = (-2, 0)  # the stage and step of the newest row
        if path.is_file():
            content = path.read_bytes()
            if not content.endswith(b"\n"):  # killed while writing: half a row is none
                os.truncate(path, content.rfind(b"\n") + 1)
            for row in read_jsonl(path):
                self.last = _place(row["stage"], row["step"])

    def write(self, stage: str, step: int, numbers: dict[str, float]) -> None:
        """Append the numbers of a step, counted from 1."""
        place = _place(stage, step)
        if place <= self.last:
            return
        row = {"stage": stage, "step": step, **{name: float(f"{value:.6g}") for name, value in numbers.items()}}
        with self.path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(row) + "\n")
        self.last = place
