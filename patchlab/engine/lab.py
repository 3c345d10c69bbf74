"""A base with its patches and an optional reference, loaded once and compared on the same prompts."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from patchlab.engine.lanes import Lane, fixed, replies, stream
from patchlab.engine.plan import BARE, Planner, StackPlan
from patchlab.engine.sampler import Sampling
from patchlab.engine.scheduler import scheduler_of
from patchlab.errors import ContextError, InputError, NotFoundError
from patchlab.models import Backbone, load_backbone, load_reference, preset, wrap
from patchlab.patches import Stack
from patchlab.records import Delta, Message, Prompt, Reply
from patchlab.registry import Registry
from patchlab.scoring import JudgeSet, judge_set

Asked = str | Prompt | Sequence[str | Prompt] | Sequence[Message | Mapping[str, str]]


class Lab:
    """A base, an optional reference, and one scheduler for each; the lanes are base, patched and reference, in this order.

    A reference that is the base with an adapter shares the base's scheduler, and its rows the base's batches.
    """

    def __init__(self, base: Backbone, reference: Backbone | None = None, *, registry: Registry | None = None,
                 name: str = "", about: str = "", judges: str = "", gates: bool = False) -> None:
        self._judges, self.gates = judges, gates
        self.base, self.reference = base, reference
        self.name, self.about = name or base.name, about
        self.scheduler = scheduler_of(base)
        self.planner = Planner(base, registry, histories=self.scheduler.histories)
        rides = reference is not None and reference.origin is base
        self.reference_scheduler = self.scheduler if rides else scheduler_of(reference) if reference else None
        self.reference_plan = StackPlan.adapted(reference.adapter) if reference and rides else BARE
        self._patched: ContextVar[Stack | None] = ContextVar("patched", default=None)

    @property
    def registry(self) -> Registry:
        """The registry that patches are loaded from."""
        return self.planner.registry

    @property
    def judges(self) -> JudgeSet:
        """The scorers that judge replies: those that the preset names, else the default of the scorer table."""
        return judge_set(self._judges)

    @property
    def lane_names(self) -> tuple[str, ...]:
        """The names of all lanes."""
        return ("base", "patched", "reference") if self.reference else ("base", "patched")

    def names_with(self, others: Iterable[str]) -> tuple[str, ...]:
        """The names of all lanes with `others`, further patched ones, behind the patched one.

        Raises InputError for one that is there already.
        """
        names = "base", "patched", *others, *self.lane_names[2:]
        if len({*names}) < len(names):
            raise InputError(f"lanes {', '.join(names)}", expected="each name once", do="name the further lanes otherwise")
        return names

    def lanes(self, stack: Stack | str | None = None, names: Sequence[str] | None = None, *,
              others: Mapping[str, Stack] | None = None) -> list[Lane]:
        """The lanes of these names (all by default) with `stack` on the patched one.

        `others` are further patched lanes, each by its name with the stack on it. Raises NotFoundError for names without a lane,
        InputError for one of `others` that another lane has.
        """
        offered = self.names_with(others or ())
        for name in names or ():
            if name not in offered:
                raise NotFoundError.of("lane", name, offered)
        made = {"base": Lane("base", self.scheduler)}
        for name, active in {"patched": self._stack(stack), **(others or {})}.items():
            made[name] = Lane(name, self.scheduler, partial(self.planner.plans, active))
        if self.reference_scheduler:
            made["reference"] = Lane("reference", self.reference_scheduler, fixed(self.reference_plan), self.reference)
        return [made[name] for name in names or offered]

    @contextmanager
    def patched(self, stack: Stack | str) -> Iterator[Lab]:
        """Use `stack` in every call inside the block that passes no stack, in this thread or task."""
        token = self._patched.set(_stack_of(stack))
        try:
            yield self
        finally:
            self._patched.reset(token)

    def generate(self, asked: str | Prompt | Sequence[Message | Mapping[str, str]], *, stack: Stack | str | None = None,
                 lane: str = "patched", sampling: Sampling | None = None) -> str:
        """The text of one lane's reply to one prompt or conversation. Raises a PatchLabError for invalid arguments."""
        prompts = prompts_of(asked)
        if len(prompts) != 1:
            raise InputError(f"{len(prompts)} prompts", expected="one prompt or one conversation", do="use `replies` for several")
        return self.replies(prompts, stack=stack, lanes=[lane], sampling=sampling)[0].text

    def stream(self, asked: Asked, *, stack: Stack | str | None = None, lanes: Sequence[str] | None = None, samples: int = 1,
               sampling: Sampling | None = None) -> Generator[tuple[Delta, ...], None, None]:
        """Yield one tuple of deltas per step of all lanes; closing the generator frees its memory.

        Raises a PatchLabError before the first step for invalid prompts, stack or sampling.
        """
        return stream(self.lanes(stack, lanes), prompts_of(asked), samples=samples, sampling=sampling)

    def replies(self, asked: Asked, *, stack: Stack | str | None = None, lanes: Sequence[str] | None = None, samples: int = 1,
                sampling: Sampling | None = None) -> list[Reply]:
        """Finished replies of these lanes to all prompts and samples, by lane and row. Raises as `stream`."""
        return replies(self.lanes(stack, lanes), prompts_of(asked), samples=samples, sampling=sampling)

    def check(self, prompt: Prompt, *, plan: StackPlan = BARE, sampling: Sampling | None = None) -> None:
        """Raise InputError or ContextError unless base, with `plan`, and reference can read a prompt and reply to it."""
        self.scheduler.request("base" if plan is BARE else "patched", 0, prompt, plan, sampling=sampling)
        if self.reference_scheduler:
            self.reference_scheduler.request("reference", 0, prompt, self.reference_plan, sampling=sampling)

    def fitted(self, prompt: Prompt, *, plan: StackPlan = BARE, sampling: Sampling | None = None) -> Prompt:
        """The prompt without those of its oldest exchanges that do not fit the context. Raises as `check` if none is left."""
        while True:
            try:
                self.check(prompt, plan=plan, sampling=sampling)
                return prompt
            except ContextError:
                if not prompt.earlier:
                    raise
                prompt = replace(prompt, earlier=prompt.earlier[2:])

    def _stack(self, stack: Stack | str | None) -> Stack:
        return _stack_of(stack) if stack is not None else self._patched.get() or Stack()


def _stack_of(stack: Stack | str) -> Stack:
    return Stack.parse(stack) if isinstance(stack, str) else stack


def prompts_of(asked: Asked) -> list[Prompt]:
    """Prompts from a text, a prompt, several of either, or the messages of one conversation. Raises InputError for others."""
    if isinstance(asked, str | Prompt):
        asked = [asked]
    if not isinstance(asked, Sequence) or not asked:
        raise InputError(f"nothing to ask in a {type(asked).__name__}", expected="a text, a prompt or messages", do="give one")
    if all(isinstance(each, Message | Mapping) for each in asked):
        return [Prompt.of(asked)]  # type: ignore[arg-type]
    wrong = next((each for each in asked if not isinstance(each, str | Prompt)), None)
    if wrong is not None:
        raise InputError(f"a {type(wrong).__name__} among prompts", expected="texts or Prompt values",
                         do="use Prompt.of(messages) for each conversation")
    return [Prompt(each) if isinstance(each, str) else each for each in asked]  # type: ignore[misc]


def load(name: str | None = None, *, base: str | Path | None = None, reference: str | Path | None = None,
         model: Any = None, tokenizer: Any = None, registry: Registry | None = None, device: str | None = None,
         device_map: Any = None, dtype: torch.dtype | None = None, bits: int | None = None) -> Lab:
    """Load a preset by `name` (by default "pocket"), or any base with an optional reference.

    `base` and `reference` are folders, Hub ids or GGUF files; `model` and `tokenizer` are loaded objects of transformers, instead
    of `base`. A reference may also be a low-rank adapter of the base, in PEFT's format: it shares the base's weights. `device`,
    `device_map`, `dtype` and `bits` (8 or 4) apply to every model that is loaded here.
    Raises NotFoundError for an unknown preset, ModelError if loading fails, BaseMismatchError for an adapter of another base,
    MissingExtraError if a library is missing.
    """
    options: dict[str, Any] = {"device": device, "device_map": device_map, "dtype": dtype, "bits": bits}
    given = [what for what, value in (("a preset", name), ("base", base), ("model", model)) if value is not None]
    if len(given) > 1 or (model is None) != (tokenizer is None):
        raise InputError(f"{' and '.join(given) or 'a tokenizer'} to load",
                         expected="a preset, a base, or a model with its tokenizer", do="give one of them")
    if model is None and base is None:
        chosen = preset(name or "pocket")
        reference = reference or chosen.reference_source()
        backbone = load_backbone(chosen.source("base"), **options)
        words: dict[str, Any] = {"name": chosen.name, "about": chosen.about, "judges": chosen.judges, "gates": chosen.gates}
    else:
        backbone, words = wrap(model, tokenizer) if base is None else load_backbone(base, **options), {}
    safer = load_reference(reference, backbone, **options) if reference else None
    return Lab(backbone, safer, registry=registry, **words)
