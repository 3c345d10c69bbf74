"""The processes a training is divided over: one, unless `accelerate launch` or `torchrun` started several.

Each holds the whole base and computes its micro-batches of a step; what is summed is the prefix's gradient, a few hundred
kilobytes. Only the first process samples, writes and reports.
"""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

TIMEOUT = timedelta(days=7)  # the first process may sample for hours while the others wait
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, slots=True)
class Processes:
    """This process's rank among `count`, from 0, and the device it uses (None: the default one)."""

    rank: int = 0
    count: int = 1
    device: str | None = None

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and reports."""
        return self.rank == 0

    def micro_batches(self, accumulate: int) -> range:
        """The numbers of this process's micro-batches of a step, of `count * accumulate` in all."""
        return range(self.rank, self.count * accumulate, self.count)

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            distributed.barrier()

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self.count > 1:
            distributed.all_reduce(value)
        return value


def join() -> Processes:
    """The group this process was started in, entered at the first call."""
    if not all(name in os.environ for name in VARIABLES) or int(os.environ["WORLD_SIZE"]) < 2:
        return Processes()
    cards = torch.cuda.is_available()
    device = f"cuda:{os.environ['LOCAL_RANK']}" if cards else None
    if not distributed.is_initialized():
        if device:
            torch.cuda.set_device(device)
        distributed.init_process_group("nccl" if cards else "gloo", timeout=TIMEOUT)
        atexit.register(distributed.destroy_process_group)
    return Processes(distributed.get_rank(), distributed.get_world_size(), device)
