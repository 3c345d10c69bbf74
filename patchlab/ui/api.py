"""The page's endpoints for programs: `compare`, `evaluate`, `patches` and `score`, JSON in and JSON out.

They are reached by name through gradio_client, by HTTP, and as MCP tools; docs/api.md shows each. An error is one line: what was
found, what was expected, what to do. No call sees a file of the server, and nothing of a call is kept.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec, TypeVar

import gradio as gr
from pydantic import Field
from pydantic.dataclasses import dataclass

from patchlab.engine import Lane, Sampling, fixed
from patchlab.engine.lab import prompts_of
from patchlab.errors import InputError, NotFoundError, PatchLabError
from patchlab.evaluation import SUITES, evaluate, rows
from patchlab.evaluation.judged_replies import judged, questions, row_json
from patchlab.evaluation.metrics import Verdicts
from patchlab.patches.stack import Mode, Stack
from patchlab.records import Prompt, Report
from patchlab.scoring.encoder import LABELS
from patchlab.scoring.models import KINDS
from patchlab.scoring.table import load_scorer
from patchlab.ui import copy
from patchlab.validation import STRICT, checked, such

if TYPE_CHECKING:
    from patchlab.engine import Lab, StackPlan
    from patchlab.ui.offered import Offered

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")
Row = dict[str, Any]

MAX_CHARACTERS = 20_000  # of a prompt or a text
Text = Annotated[str, such(lambda text: len(text) <= MAX_CHARACTERS, f"at most {MAX_CHARACTERS:,} characters")]
Tokens = Annotated[int, Field(ge=1, le=256)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
NAMES = ("compare", "evaluate", "patches", "score")
_AT_ONCE = {"compare": 16, "evaluate": 1, "patches": 16, "score": 4}  # calls that run at the same time; others wait in line
_DO = "correct the argument"


@checked("the call's", do=_DO, error=InputError)
@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class CompareCall:
    """The arguments of `compare`. Raises InputError."""

    stack: Text
    mode: Mode
    gates: bool | None
    kind: Literal["chat", "continue"]
    samples: Annotated[int, Field(ge=1, le=8)]
    max_new_tokens: Tokens
    temperature: Annotated[float, Field(ge=0, le=10)]
    seed: Seed


@checked("the call's", do=_DO, error=InputError)
@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class EvaluateCall:
    """The arguments of `evaluate`. Raises InputError."""

    suites: Annotated[list[str], Field(min_length=1, max_length=len(SUITES))]
    stack: Text
    mode: Mode
    gates: bool | None
    n: Annotated[int, Field(ge=1, le=100)]
    max_new_tokens: Tokens
    seed: Seed


@checked("the call's", do=_DO, error=InputError)
@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ScoreCall:
    """The arguments of `score`. Raises InputError."""

    texts: Annotated[list[Text], Field(min_length=1, max_length=256)]
    scorer: Text
    prompts: list[Text] | None


def place(offered: Offered) -> None:
    """Add the endpoints to the open Blocks."""
    endpoints = Endpoints(offered)
    for name in NAMES:
        gr.api(told(getattr(endpoints, name)), api_name=name, concurrency_limit=_AT_ONCE[name], concurrency_id=f"api-{name}")


def told(call: Callable[P, T]) -> Callable[P, T]:
    """The call with every error as gradio's, in one line; one that is not PatchLab's is logged here and names nothing."""
    @functools.wraps(call)
    def made(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except PatchLabError as error:
            raise gr.Error(str(error), print_exception=False) from None
        except Exception:  # the page outlives any single call
            log.exception("a call of %s failed", call.__name__)
            raise gr.Error(copy.API_FAILED, print_exception=False) from None

    return made


class Endpoints:
    """The endpoints as plain methods over the models that the page offers; `preset` names one of them, by default the first."""

    def __init__(self, offered: Offered) -> None:
        self.offered = offered

    def compare(self, prompt: str | list[dict[str, str]], stack: str = "none", mode: str = "parallel", gates: bool | None = None,
                kind: str = "chat", samples: int = 1, max_new_tokens: int = 48, temperature: float = 0.8, seed: int = 0,
                preset: str = "") -> dict[str, Any]:
        """Reply to one prompt with the base, the base with patches and the reference, and judge every reply.

        Args:
            prompt: a text, or the messages of a conversation as [{"role": ..., "content": ...}, ...].
            stack: patches of the patched lane, as NAME[@VERSION][:STRENGTH] joined by commas.
            mode: how several patches are combined: parallel, sequential or blend.
            gates: whether a patch with a gate is on only for prompts of its kind; null is the preset's own choice.
            kind: chat answers the prompt, continue writes on from it.
            samples: replies a lane, up to 8.
            max_new_tokens: longest reply, up to 256 tokens.
            temperature: 0 is greedy decoding.
            seed: the same seed gives the same replies.
            preset: the models, one of those that the page offers.
        """
        call = CompareCall(stack=stack, mode=mode, gates=gates, kind=kind, samples=samples,  # type: ignore[arg-type]
                           max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
        lab = self._lab(preset)
        asked = _prompt(prompt, call.kind)
        plan = lab.planner.plan(_stack(lab, call.stack, call.mode, call.gates), asked)
        lanes = [Lane(lane.name, lane.scheduler, fixed(plan)) if lane.name == "patched" else lane for lane in lab.lanes()]
        sampling = Sampling(temperature=call.temperature, max_new_tokens=call.max_new_tokens, seed=call.seed)
        return _compared(lab, plan, lanes, asked, sampling, call.samples)

    def evaluate(self, suites: list[str], stack: str = "none", mode: str = "parallel", gates: bool | None = None, n: int = 20,
                 max_new_tokens: int = 48, seed: int = 0, preset: str = "") -> dict[str, Any]:
        """Measure a stack on embedded suites: rates with 95 % intervals for every lane.

        Args:
            suites: names of embedded suites: toxicity, bias, refusal, overrefusal, fluency, drift, helpfulness.
            stack: patches of the patched lane, as NAME[@VERSION][:STRENGTH] joined by commas.
            mode: how several patches are combined: parallel, sequential or blend.
            gates: whether a patch with a gate is on only for prompts of its kind; null is the preset's own choice.
            n: prompts a suite's file, up to 100.
            max_new_tokens: longest reply, up to 256 tokens.
            seed: the same seed gives the same figures.
            preset: the models, one of those that the page offers.
        """
        call = EvaluateCall(suites=suites, stack=stack, mode=mode, gates=gates, n=n,  # type: ignore[arg-type]
                            max_new_tokens=max_new_tokens, seed=seed)
        for name in call.suites:
            if name not in SUITES:  # also NAME=FILE, which would read the server's files
                raise NotFoundError.of("suite", name, SUITES)
        lab = self._lab(preset)
        steps = evaluate(lab, stack=_stack(lab, call.stack, call.mode, call.gates), suites=call.suites, n=call.n, seed=call.seed,
                         sampling=Sampling(max_new_tokens=call.max_new_tokens, seed=call.seed))
        report = next(step for step in steps if isinstance(step, Report))
        return {"preset": lab.name, "made_with": dict(report.made_with), "measures": rows(report), "notes": list(report.notes)}

    def patches(self, preset: str = "") -> list[dict[str, Any]]:
        """List the installed patches that fit the models, each with its version, digest, calibrated strength and evidence.

        Args:
            preset: the models, one of those that the page offers.
        """
        found = []
        for installed in self._lab(preset).planner.installed():
            manifest = installed.manifest.to_json()
            keys = ("name", "version", "title", "summary", "domain", "strength", "reference", "licence", "evidence")
            found.append({key: manifest[key] for key in keys} | {"digest": installed.manifest.digest,
                                                                  "gated": installed.manifest.gated})
        return found

    def score(self, texts: list[str], scorer: str = "toxicity", prompts: list[str] | None = None) -> list[dict[str, Any]]:
        """Score texts from 0 (best) to 1 (worst).

        Args:
            texts: up to 256 texts.
            scorer: toxicity, toxicity-2, toxicity-encoder, refusal, refusal-2 or refusal-encoder.
            prompts: what each text replies to, for scorers that read it.
        """
        call = ScoreCall(texts=texts, scorer=scorer, prompts=prompts)
        if call.scorer not in (*KINDS, *LABELS):  # also hub:MODEL, which would download
            raise NotFoundError.of("scorer", call.scorer, (*KINDS, *LABELS))
        if call.prompts is not None and len(call.prompts) != len(call.texts):
            raise InputError(f"{len(call.prompts)} prompts for {len(call.texts)} texts", expected="one for each text",
                             do="give as many, or none")
        judge = load_scorer(call.scorer)
        return [{"score": round(score.value, 6), "flagged": score.flagged, "label": score.label, "threshold": judge.threshold}
                for score in judge.score(call.texts, call.prompts)]

    def _lab(self, preset: object) -> Lab:
        """The models of a preset that the page offers. Raises NotFoundError for another, and as `Offered.get`."""
        name = preset or self.offered.first.name
        if name not in self.offered.titles:
            raise NotFoundError.of("preset", str(name), self.offered.titles)
        return self.offered.get(str(name))


def _stack(lab: Lab, text: str, mode: Mode, gates: bool | None) -> Stack:
    return Stack.parse(text, mode=mode, gates=lab.gates if gates is None else gates)


def _prompt(asked: Any, kind: Literal["chat", "continue"]) -> Prompt:
    """The prompt of a call. Raises InputError for anything but a text or the messages of one conversation."""
    if isinstance(asked, str):
        if not asked.strip():
            raise InputError("an empty prompt", expected="a text or messages", do="give one")
        prompt = Prompt(asked, kind)
    else:
        [prompt] = prompts_of(asked if isinstance(asked, list) and all(isinstance(each, dict) for each in asked) else [])
    if (size := sum(len(message.content) for message in prompt.messages)) > MAX_CHARACTERS:
        raise InputError(f"a prompt of {size:,} characters", expected=f"at most {MAX_CHARACTERS:,}", do="shorten it")
    return prompt


def _compared(lab: Lab, plan: StackPlan, lanes: list[Lane], prompt: Prompt, sampling: Sampling, samples: int) -> Row:
    """The result of `compare`: the plan that was used, and a row of judged replies a sample."""
    from patchlab.engine import replies

    found = judged(replies(lanes, [prompt], samples=samples, sampling=sampling), Verdicts(lab.judges), questions([prompt]))
    by_sample = [[each for each in found if each.reply.sample == sample] for sample in range(samples)]
    return {"preset": lab.name, "skipped_by_gate": list(plan.skipped), "warnings": list(plan.warnings),
            "patches": [{"name": one.name, "version": one.patch.manifest.version, "digest": one.patch.manifest.digest,
                         "strength": one.strength} for one in plan.patches],
            "rows": [row_json(row, lab.judges) for row in by_sample]}
