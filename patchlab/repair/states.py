"""The state of a repair in training: its tensors and Adam's moments in one file, replaced as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from patchlab.errors import TrainingError
from patchlab.storage import write_atomic

MOMENTS = ("exp_avg", "exp_avg_sq")


def save_state(path: Path, tensors: Mapping[str, Tensor], optimizer: torch.optim.Adam, step: int) -> None:
    """Write tensors, moments and the number of steps done, atomically."""
    whole = {name: tensor.detach() for name, tensor in tensors.items()}
    whole |= {f"{moment}|{name}": optimizer.state[tensor][moment] for name, tensor in tensors.items() for moment in MOMENTS}
    stored = {name: tensor.cpu().contiguous() for name, tensor in whole.items()} | {"at": torch.tensor(step)}
    write_atomic(path, lambda temporary: save_file(stored, temporary))


def load_state(path: Path, tensors: Mapping[str, Tensor], optimizer: torch.optim.Adam) -> int:
    """Load what `save_state` wrote into the same tensors; returns the steps done, 0 without a file.

    Raises TrainingError for tensors of other names or shapes.
    """
    if not path.is_file():
        return 0
    stored = load_file(path)
    step = int(stored.pop("at"))
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    if {name: list(tensor.shape) for name, tensor in stored.items() if "|" not in name} != shapes:
        raise TrainingError(f"{path} with tensors of another repair", expected=f"{len(shapes)} tensors of this one",
                            do="choose another folder")
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(stored[name])
            optimizer.state[tensor] = {"step": torch.tensor(float(step)),
                                       **{moment: stored[f"{moment}|{name}"].to(tensor.device) for moment in MOMENTS}}
    return step
