"""lm-evaluation-harness asks a backbone with a stack, and batch size changes nothing."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from made_models import CONTEXT, full_forward, make_backbone, make_patch

from patchlab.engine import Bank, Lane, Sampling, Scheduler, StackPlan, fixed, replies
from patchlab.errors import InputError
from patchlab.records import Prompt

BLOCKED = """
import sys
sys.modules["lm_eval"] = None
from patchlab.errors import MissingExtraError
try:
    import patchlab.evaluation.harness
except MissingExtraError as error:
    print(error)
"""
TEXTS = ["the bus is late", "so", "my neighbor came home and said nothing at all", "why", "we went to the sea"]


def _plan() -> StackPlan:
    backbone = make_backbone("llama")
    return StackPlan.of((Bank(backbone).segment([make_patch(backbone, "calm", length=5)]), 1.0))


def _instances(kind: str, *asked: tuple[Any, ...]) -> list[Any]:
    instance = pytest.importorskip("lm_eval.api.instance").Instance
    return [instance(kind, {}, arguments, k) for k, arguments in enumerate(asked)]


def _model(**options: Any) -> Any:
    pytest.importorskip("lm_eval")
    from patchlab.evaluation.harness import PatchedLM

    return PatchedLM(make_backbone("llama"), _plan(), **options)


def test_without_the_library_the_line_that_installs_it_is_named() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKED], cwd=Path(__file__).resolve().parents[2], capture_output=True,
                          text=True, check=False, timeout=600)
    assert done.stdout.strip() == ("lm-evaluation-harness is not installed; expected lm-eval 0.4.13 for PatchedLM; "
                                   "pip install lm-eval==0.4.13"), done.stderr


def test_log_likelihood_by_hand() -> None:
    backbone = make_backbone("llama")
    patch = make_patch(backbone, "calm", length=5)
    found = _model().loglikelihood(_instances("loglikelihood", ("the bus", " is late"), ("", "so")))
    for (value, greedy), (before, said) in zip(found, (("the bus", " is late"), ("", "so")), strict=True):
        ids = backbone.tokenizer(before)["input_ids"] if before else [min(backbone.stops)]
        more = backbone.tokenizer(said)["input_ids"]
        with torch.no_grad():
            logits = full_forward(backbone, [*ids, *more], [(torch.tensor(patch.prefix), 1.0)]).log_softmax(-1)
        where = torch.arange(len(ids) - 1, len(ids) + len(more) - 1)
        assert value == pytest.approx(logits[where, torch.tensor(more)].sum().item(), abs=1e-4)
        assert greedy == bool((logits[where].argmax(-1) == torch.tensor(more)).all())


def test_a_text_longer_than_the_context_is_scored_in_windows_once_each() -> None:
    model = _model(batch_size=2)
    long = "what a day " * 20
    assert len(long) > CONTEXT  # one token a byte
    [value] = model.loglikelihood_rolling(_instances("loglikelihood_rolling", (long,)))
    room, ids = CONTEXT - 5, model.tok_encode(long)
    patch, total = make_patch(model.backbone, "calm", length=5), 0.0
    scored = 0
    while scored < len(ids):
        last = min(len(ids), scored + room)
        seen = [min(model.backbone.stops), *ids][:last + 1][-(room + 1):]
        with torch.no_grad():
            logits = full_forward(model.backbone, seen[:-1], [(torch.tensor(patch.prefix), 1.0)]).log_softmax(-1)
        own = last - scored
        total += logits[-own:].gather(1, torch.tensor(seen[-own:])[:, None]).sum().item()
        scored = last
    assert value == pytest.approx(total, rel=1e-4)


def test_greedy_text_is_the_engine_s_and_ends_at_its_stop_string() -> None:
    model = _model(batch_size=3)
    found = model.generate_until(_instances("generate_until", *((text, {"until": [], "max_gen_toks": 12}) for text in TEXTS)))
    wanted = replies([Lane("patched", Scheduler(model.backbone), fixed(_plan()))], [Prompt(text, "continue") for text in TEXTS],
                       sampling=Sampling(temperature=0, max_new_tokens=12))
    assert [text.strip() for text in found] == [reply.text for reply in wanted]
    whole = max(found, key=len)
    stop, at = whole[3:5], found.index(whole)
    [cut] = model.generate_until(_instances("generate_until", (TEXTS[at], {"until": [stop], "max_gen_toks": 12})))
    assert cut == whole[:whole.index(stop)] and len(cut) < len(whole)


def test_samples_of_one_request_differ_and_come_again() -> None:
    asked = ("the bus", {"until": [], "max_gen_toks": 8, "do_sample": True, "temperature": 1.0})
    first = _model(batch_size=1).generate_until(_instances("generate_until", asked, asked))
    assert first[0] != first[1]
    assert _model(batch_size=8).generate_until(_instances("generate_until", asked, asked)) == first


# the library's own and those of what it reads data with
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning",
                            "ignore::UserWarning")
def test_batch_sizes_agree_on_a_task_of_the_harness(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.evaluator import evaluate

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    rows = [{"question": f"{text} and then", "choices": ["it rained", "we all went home again", "no"], "answer": k % 3}
            for k, text in enumerate(TEXTS * 2)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))

    def read(**_: object) -> dict[str, Any]:
        return {"test": Dataset.from_list(json.loads((tmp_path / "rows.json").read_text()))}

    common: dict[str, Any] = {"custom_dataset": read, "test_split": "test", "doc_to_text": "{{question}}", "num_fewshot": 0}
    choice = {**common, "task": "made_choice", "output_type": "multiple_choice", "doc_to_choice": "{{choices}}",
              "doc_to_target": "{{answer}}", "metric_list": [{"metric": "acc"}]}
    written = {**common, "task": "made_writing", "output_type": "generate_until", "doc_to_target": "{{choices[answer]}}",
               "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8}, "metric_list": [{"metric": "exact_match"}]}
    found = []
    for size in (1, 8):
        tasks = {config["task"]: ConfigurableTask(config=dict(config)) for config in (choice, written)}
        result = evaluate(_model(batch_size=size), {"tasks": tasks}, bootstrap_iters=0)
        assert result is not None
        found.append(result)
    one, eight = (each["samples"] for each in found)
    assert one.keys() == eight.keys() == {"made_choice", "made_writing"}
    for a, b in zip(one["made_choice"], eight["made_choice"], strict=True):
        likely = [[float(answer[0]) for (answer, *_) in each["resps"]] for each in (a, b)]
        assert likely[0] == pytest.approx(likely[1], abs=1e-4) and len(set(likely[0])) == 3
    assert [s["resps"] for s in one["made_writing"]] == [s["resps"] for s in eight["made_writing"]]
    assert found[0]["results"]["made_choice"]["acc,none"] == found[1]["results"]["made_choice"]["acc,none"]


def test_a_plan_that_gates_made_for_one_prompt_is_refused() -> None:
    pytest.importorskip("lm_eval")
    from patchlab.evaluation.harness import PatchedLM

    with pytest.raises(InputError, match="gates left calm off for one prompt"):
        PatchedLM(make_backbone("llama"), StackPlan(skipped=("calm",)))
