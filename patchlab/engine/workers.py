"""Several backbones at work at once: on a CPU each in a thread of its own, with its share of the cores.

A small model's step is too short to be split over cores; two models' steps are not. On other devices the work is queued
anyway, and one thread does it all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar

import torch

Returned = TypeVar("Returned")


class Workers:
    """One worker for each of some devices; closing them ends their threads."""

    def __init__(self, devices: Sequence[torch.device]) -> None:
        threads = torch.get_num_threads()
        share = threads // len(devices)
        alone = len(devices) == 1 or share < 1 or any(device.type != "cpu" for device in devices)
        self._pools = [] if alone else [
            ThreadPoolExecutor(1, thread_name_prefix="backbone", initializer=_take, initargs=(share,))
            for _ in devices]
        if self._pools:
            for pool in self._pools:  # begin, so that each has taken its share
                pool.submit(int).result()
            torch.set_num_threads(threads)  # for threads to come

    def each(self, work: Sequence[Callable[[], Returned]]) -> list[Returned]:
        """What each worker's piece of work returns. All have ended when one's exception is raised."""
        if not self._pools:
            return [piece() for piece in work]
        futures: list[Any] = [pool.submit(piece) for pool, piece in zip(self._pools, work, strict=True)]
        wait(futures)
        return [future.result() for future in futures]

    def close(self) -> None:
        """End the threads, when what they do is done."""
        for pool in self._pools:
            pool.shutdown()


def _take(share: int) -> None:
    """Give the calling thread so many threads of its own: a thread takes what was set last when it first asks, and keeps it."""
    torch.set_num_threads(share)
    torch.get_num_threads()
