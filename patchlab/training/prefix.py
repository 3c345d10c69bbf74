"""The thing that is trained: a prefix [P, D], its optimizer, and the state file both resume from."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from patchlab.engine import Segment, compile_prefix
from patchlab.engine.decode import Part
from patchlab.errors import TrainingError
from patchlab.models import Backbone
from patchlab.records import Kind, Prompt
from patchlab.storage import write_atomic
from patchlab.training.config import Recipe
from patchlab.training.distributed import Processes


def initial_prefix(backbone: Backbone, recipe: Recipe) -> Tensor:
    """The prefix [P, D] training starts from, by `recipe.init`: a written instruction, random words, or noise.

    The first row is the text's own opening token where there is one: attention treats it as a place to rest. A written
    start lifted the safe rate from 0.34 to 0.82 in the paper (arXiv 2511.08484).
    """
    table = backbone.embed(torch.arange(backbone.embeddings.shape[0])).float().cpu()  # as the first layer receives them
    random = torch.Generator().manual_seed(recipe.seed)
    if recipe.init == "random":
        return torch.randn(recipe.length, table.shape[1], generator=random) * table.std()
    if recipe.init == "vocabulary":
        return table[torch.randint(table.shape[0], (recipe.length,), generator=random)]
    kind: Kind = "continue" if recipe.domain in ("toxicity", "bias") else "chat"
    instructed = backbone.encode(Prompt("x", kind, system=recipe.instruction))
    bare = backbone.encode(Prompt("x", kind))
    written = instructed[:len(instructed) - _shared_end(instructed, bare)] or instructed
    # an instruction shorter than the prefix is said again, a longer one is cut
    again = written[1:] or written
    ids = (written + again * (recipe.length // len(again)))[:recipe.length]
    return table[torch.tensor(ids)]


def _shared_end(a: list[int], b: list[int]) -> int:
    """How many tokens two encodings share at their end: the prompt itself, behind any instruction."""
    shared = 0
    while shared < min(len(a), len(b)) and a[-1 - shared] == b[-1 - shared]:
        shared += 1
    return shared


class PrefixTrainer:
    """A prefix with Adam moments on the backbone's device; `save` and `resume` hold all of it, safetensors only.

    A step is `open`, a loss taken through `segment` and `backward` for each of its pieces, and `step`. `strength` is what the
    patch stands at while it trains.
    """

    def __init__(self, backbone: Backbone, prefix: Tensor, processes: Processes | None = None, *,
                 strength: float = 1.0) -> None:
        self.backbone, self.processes, self.strength = backbone, processes or Processes(), strength
        self.prefix = prefix.to(backbone.device, torch.float32).clone().requires_grad_(True)
        self.optimizer = torch.optim.Adam([self.prefix], lr=0.0, betas=(0.9, 0.98))
        self.good = self.prefix.detach().clone()  # the last state whose loss was finite
        self.beside: dict[str, Tensor] = {}  # what else a stage wants saved and resumed with the prefix
        self.compiled: Segment
        self.leaves: Segment

    def open(self, around: Callable[[Tensor], Tensor] = lambda prefix: prefix) -> None:
        """Compile the prefix, with what stands around it, for a step: once, for all its rows."""
        self.compiled = compile_prefix(self.backbone, around(self.prefix))
        # gradients of many pieces gather in 32 bits, whatever the model computes in
        self.leaves = _each(self.compiled, lambda tensor: tensor.detach().float().requires_grad_(True))

    def segment(self) -> Segment:
        """The step's segment; gradients of each loss taken through it gather until `step`."""
        keys, values = (tuple(leaf.to(tensor.dtype) for leaf, tensor in zip(leaves, tensors, strict=True))
                        for leaves, tensors in ((self.leaves.keys, self.compiled.keys),
                                                (self.leaves.values, self.compiled.values)))
        return Segment(keys, values)

    def part(self) -> Part:
        """The prefix as it is now, compiled without gradients, at its strength."""
        with torch.no_grad():
            return compile_prefix(self.backbone, self.prefix), self.strength

    def step(self, numbers: dict[str, Tensor], *, rate: float, stage: str, at: int) -> dict[str, float]:
        """One update by the gradients gathered; returns `numbers` (this process's parts) summed over all processes.

        Raises TrainingError, keeping the last good prefix, where a number or the gradient is not finite.
        """
        reached = [(tensor, leaf.grad.to(tensor.dtype))
                   for tensor, leaf in zip((*self.compiled.keys, *self.compiled.values),
                                           (*self.leaves.keys, *self.leaves.values), strict=True) if leaf.grad is not None]
        if reached:  # a process may have no rows in a small step
            torch.autograd.backward([tensor for tensor, _ in reached], [grad for _, grad in reached])
        grad = torch.zeros_like(self.prefix) if self.prefix.grad is None else self.prefix.grad
        both = self.processes.total(torch.cat([grad.flatten(), torch.stack([*numbers.values()]).to(grad)]))
        self.prefix.grad = both[:grad.numel()].view_as(grad)
        found = dict(zip(numbers, both[grad.numel():].tolist(), strict=True))
        norm = torch.nn.utils.clip_grad_norm_([self.prefix], 1.0)
        if not (all(map(math.isfinite, found.values())) and torch.isfinite(norm)):
            with torch.no_grad():
                self.prefix.copy_(self.good)
            raise TrainingError(f"a loss that is not finite at {stage} step {at}", expected="finite numbers",
                                do=f"lower {stage}_rate and train into another folder; the state last saved is kept")
        self.good.copy_(self.prefix.detach())
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        return found

    def fresh_moments(self) -> None:
        """Forget Adam's moments: a new stage has another loss."""
        self.optimizer.state.clear()

    def save(self, path: Path, *, step: int) -> None:
        """Write prefix, moments and step, atomically; only the first process does."""
        if not self.processes.first:
            return
        tensors = {"prefix": self.prefix.detach().cpu().contiguous(), "at": torch.tensor(step)}
        for name, value in self.optimizer.state.get(self.prefix, {}).items():
            tensors[name] = value.detach().cpu().contiguous()
        tensors |= {f"beside.{name}": value.detach().cpu().contiguous() for name, value in self.beside.items()}
        write_atomic(path, lambda temporary: save_file(tensors, temporary))

    def resume(self, path: Path) -> int:
        """Load what `save` wrote; returns the step to go on from, 0 without a file."""
        self.beside = {}
        if not path.is_file():
            return 0
        tensors = load_file(path)
        if tensors["prefix"].shape != self.prefix.shape:
            raise TrainingError(f"a saved prefix of shape {list(tensors['prefix'].shape)}",
                                expected=str(list(self.prefix.shape)), do="train into another folder")
        self.put(tensors["prefix"])
        if "exp_avg" in tensors:
            self.optimizer.state[self.prefix] = {
                "step": tensors["step"], **{n: tensors[n].to(self.prefix.device) for n in ("exp_avg", "exp_avg_sq")}}
        self.beside = {name.removeprefix("beside."): value.to(self.prefix.device)
                       for name, value in tensors.items() if name.startswith("beside.")}
        return int(tensors["at"])

    def put(self, prefix: Tensor) -> None:
        """Take this prefix [P, D] in place of the present one."""
        with torch.no_grad():
            self.prefix.copy_(prefix)
        self.good.copy_(self.prefix.detach())


def _each(segment: Segment, change: Callable[[Tensor], Tensor]) -> Segment:
    return Segment(tuple(map(change, segment.keys)), tuple(map(change, segment.values)))


def precision(backbone: Backbone) -> contextlib.AbstractContextManager[object]:
    """Autocast to bf16 where the processor multiplies it natively; elsewhere it would only lose digits."""
    if backbone.device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return contextlib.nullcontext()


def decay(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over 5 % of the steps, then linear decay to a tenth."""
    warm = max(1, steps // 20)
    return peak * min((step + 1) / warm, 1.0) * (1 - 0.9 * step / steps)
