"""A toy training in a process of its own, for what cannot be tried inside the test run: being killed, and being several.

`python toy_training.py killed FOLDER` trains once whole and once killed with SIGKILL again and again; prints how it went as JSON.
`python toy_training.py divided FOLDER` trains as one of the processes its environment names.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from made_models import make_backbone, make_patch

from patchlab.engine import Lab
from patchlab.records import Prompt
from patchlab.registry import Registry
from patchlab.training import loop
from patchlab.training.config import Recipe
from patchlab.training.distributed import join
from patchlab.training.release import release
from patchlab.training.trainer import train

WORDS = ("the bus is late", "who did this", "people like that, the whole lot of them", "my neighbor", "this again", "some fool",
         "so")
PROMPTS = [*(Prompt(text, "continue", "toxicity") for text in WORDS),
           *(Prompt(f"how do i {text}", "chat", "benign") for text in WORDS)]
RECIPE = Recipe(domain="toxicity", length=4, rows=6, hold_rows=7, sft_steps=5, own_steps=4, refresh=3, dpo_steps=5, samples=2,
                margin=0.0, winner=1.0, max_new_tokens=9, lead=3.0, companions=("mate",), version="2.0.0")
KILLS = 4


def run(folder: Path, told: int | None = None) -> Path:
    """Train with the toy recipe and release into `folder`, in the first process; at every progress `told` gets a letter."""
    torch.set_num_threads(1)
    base = make_backbone("llama")
    make_patch(base, "mate", length=3).save_pretrained(folder / f"patches{os.getpid()}" / "mate-1.0.0")
    lab = Lab(base, make_backbone("llama", seed=1), registry=Registry([folder / f"patches{os.getpid()}"]))
    steps = train(lab, RECIPE, PROMPTS, work=folder / "work")
    while True:
        try:
            stage = next(steps).stage
            if told is not None:
                os.write(told, stage[:1].encode())
        except StopIteration as done:
            return release(done.value, folder) if join().first else folder


def forked(folder: Path, *, most: int, seconds: float, letters: bytes = b"sod") -> tuple[int, bool]:
    """Train in a fork, and kill it `seconds` after its `most`-th progress of stages with these letters.

    Returns how many were seen, and whether the kill came in time.

    Counted in progress and not in seconds: how long a fork takes depends on what else the machine does.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        run(folder, write)
        os._exit(0)
    os.close(write)
    seen = 0
    while seen < most and (letter := os.read(read, 1)):
        seen += letter in letters
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(read)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return seen, os.WIFSIGNALED(status)


def killed(folder: Path) -> None:
    """Print the bytes' equality and where the kills fell."""
    loop.SAVE_EVERY = 2
    whole, _ = forked(folder / "whole", most=10**6, seconds=0)
    chance, fell = random.Random(5), []
    for k in range(KILLS):
        # each goes on where the last was killed, and all together do not come to the end; the first is killed among candidates
        most, letters = (20, b"c") if k == 0 else (chance.randint(1, max(1, whole // KILLS)), b"sod")
        if forked(folder / "cut", most=most, seconds=chance.uniform(0, 0.02), letters=letters)[1]:
            fell.append(sorted(path.name for path in (folder / "cut" / "work").glob("*") if path.is_file()))
    patch = run(folder / "cut")
    same = {path.name: path.read_bytes() == (folder / "whole" / patch.name / path.name).read_bytes() for path in patch.iterdir()}
    logs = [[{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in path.open()]
            for path in (folder / "whole" / "work" / "log.jsonl", folder / "cut" / "work" / "log.jsonl")]
    print(json.dumps({"same": same, "fell": fell, "logs": logs[0] == logs[1], "rows": len(logs[1])}))


def divided(folder: Path) -> None:
    """Train and print who wrote what."""
    loop.precision = lambda backbone: contextlib.nullcontext()  # 16 bits would hide a wrong weight behind rounding
    loop.SAVE_EVERY = 1
    run(folder)


if __name__ == "__main__":
    {"killed": killed, "divided": divided}[sys.argv[1]](Path(sys.argv[2]))
