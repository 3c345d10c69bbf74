"""What a training leaves on disk while it runs: the log, one JSON line a step, and the state that a stage resumes from."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from patchlab.errors import TrainingError
from patchlab.storage import read_jsonl, write_atomic
from patchlab.training.prefix import PrefixTrainer


def _place(stage: str, step: int) -> tuple[int, int]:
    """The order of rows: SFT, on-policy, then DPO, whose later rounds are dpo2, dpo3, ..."""
    before_dpo = {"sft": -1, "on_policy": 0}
    return before_dpo[stage] if stage in before_dpo else int(stage.removeprefix("dpo") or 1), step


class StepLog:
    """Appends a row a step; steps that a resumed run repeats are in it already and are not written twice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = (-2, 0)  # the stage and step of the newest row
        if path.is_file():
            content = path.read_bytes()
            if not content.endswith(b"\n"):  # the run was killed while it wrote a row
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


def save_state(path: Path, prefix: PrefixTrainer, *, step: int) -> None:
    """Write prefix, Adam's moments and step atomically, as safetensors; only the first process does."""
    if not prefix.processes.first:
        return
    tensors = {"prefix": prefix.tensor.detach(), "at": torch.tensor(step), **prefix.optimizer.state.get(prefix.tensor, {}),
               **{f"extra.{name}": value for name, value in prefix.extra.items()}}
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomic(path, lambda temporary: save_file(whole, temporary))


def resume(path: Path, prefix: PrefixTrainer) -> int:
    """Load what `save_state` wrote; returns the step to go on from, 0 without a file.

    Raises TrainingError for a prefix of another shape.
    """
    prefix.extra = {}
    if not path.is_file():
        return 0
    tensors = load_file(path)
    own = prefix.tensor
    if tensors["prefix"].shape != own.shape:
        raise TrainingError(f"a saved prefix of shape {list(tensors['prefix'].shape)}", expected=str(list(own.shape)),
                            do="train into another folder")
    prefix.replace(tensors["prefix"])
    if "exp_avg" in tensors:
        prefix.optimizer.state[own] = {"step": tensors["step"],
                                       **{name: tensors[name].to(own.device) for name in ("exp_avg", "exp_avg_sq")}}
    prefix.extra = {name.removeprefix("extra."): value.to(own.device)
                    for name, value in tensors.items() if name.startswith("extra.")}
    return int(tensors["at"])
