"""The path of a reply has the probabilities of a plain forward pass of transformers, and of the engine's independent twin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_adapters import save_adapter
from made_models import eager_twin, full_forward, make_backbone, make_patch, put

from patchlab.engine import BARE, Planner, StackPlan
from patchlab.engine.forward_rows import blended
from patchlab.errors import ContextError, InputError
from patchlab.evaluation import reply_path as module
from patchlab.evaluation.reply_path import APART, LIKELIER, ReplyPath, reply_path
from patchlab.models import Backbone, read_adapter, with_adapter
from patchlab.patches import Stack
from patchlab.records import Message, Prompt, Reply
from patchlab.registry import Registry

EARLIER = (Message("user", "so"), Message("assistant", "walk there"))
PROMPTS = {"chat": Prompt("how do i bake bread"), "system": Prompt("how do i bake bread", system="be brief"),
           "talk": Prompt("and then", earlier=EARLIER), "continue": Prompt("how do i bake", "continue")}


@pytest.fixture(scope="module")
def llama() -> Backbone:
    return make_backbone("llama")


@pytest.fixture
def planner(llama: Backbone, tmp_path: Path) -> Planner:
    """A planner with two installed patches."""
    for name, length in (("a", 5), ("b", 7)):
        put(make_patch(llama, name, length=length), tmp_path)
    return Planner(llama, Registry([tmp_path]))


def said(prompt: Prompt, stop: str = "end", text: str = "mix flour") -> Reply:
    """A reply of one token a byte."""
    return Reply("patched", 0, prompt, 0, text, len(text), stop)  # type: ignore[arg-type]


def near(path: ReplyPath, reply: Reply, backbone: Backbone, lane: torch.Tensor, base: torch.Tensor) -> None:
    """The path's numbers are those of these log-probabilities [N, V] of lane and base at the reply's places."""
    ids = backbone.tokenizer(reply.text, add_special_tokens=False)["input_ids"]
    ids += [max(backbone.stops, key=lambda stop: lane[len(ids), stop])] if reply.stop == "end" else []
    assert len(path.tokens) == len(ids) and not path.resplit
    for k, (token, each) in enumerate(zip(ids, path.tokens, strict=True)):
        assert each.lane == pytest.approx(lane[k, token].item(), abs=1e-4)
        assert each.base == pytest.approx(base[k, token].item(), abs=1e-4)
        assert each.apart == pytest.approx(0.5 * (lane[k].exp() - base[k].exp()).abs().sum().item(), abs=1e-4)
    for place in path.alternatives:
        for found, full in ((place.lane, lane[place.place]), (place.base, base[place.place])):
            assert [each.probability for each in found] == pytest.approx(full.exp().topk(5).values.tolist(), abs=1e-4)
    others = [k for k, token in enumerate(ids) if base[k].argmax() != token]
    assert path.other == next(iter(others), None)
    assert path.fork == next((k for k in others if lane[k, ids[k]] - base[k, ids[k]] >= LIKELIER), None)


def plain(backbone: Backbone, reply: Reply) -> torch.Tensor:
    """Log-probabilities [N, V] of the reply's places in one forward pass of transformers alone."""
    before, ids = backbone.encode(reply.prompt), backbone.tokenizer(reply.text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = eager_twin(backbone)(input_ids=torch.tensor([[*before, *ids]])).logits[0].log_softmax(-1)
    return logits[len(before) - 1:][:len(ids) + (reply.stop == "end")]


def patched(backbone: Backbone, reply: Reply, parts: Sequence[tuple[torch.Tensor, float]]) -> torch.Tensor:
    """The same behind prefixes, which stand before the current turn."""
    encoded = backbone.encode_turns(reply.prompt)
    ids = backbone.tokenizer(reply.text, add_special_tokens=False)["input_ids"]
    now = [*encoded.ids[encoded.turn:], *ids]
    with torch.no_grad():
        logits = full_forward(backbone, now, parts, history=encoded.ids[:encoded.turn]).log_softmax(-1)
    return logits[len(now) - len(ids) - 1:][:len(ids) + (reply.stop == "end")]


@pytest.mark.parametrize("name", PROMPTS)
@pytest.mark.parametrize("stop", ["end", "length", "cancelled"])
def test_both_models_have_the_probabilities_of_a_plain_forward(llama: Backbone, planner: Planner, name: str, stop: str) -> None:
    text = " mix flour" if name == "continue" else "mix flour"
    reply = said(PROMPTS[name], stop, text)
    [plan] = planner.plans(Stack.parse("a:1.5,b:1"), [reply.prompt])
    prefixes = [(torch.tensor(make_patch(llama, each, length=length).prefix), strength)
                for each, length, strength in (("a", 5, 1.5), ("b", 7, 1.0))]
    path = reply_path(llama, llama, reply, plan)
    near(path, reply, llama, patched(llama, reply, prefixes), plain(llama, reply))
    assert "".join(each.text for each in path.tokens) == text
    assert [each.ends for each in path.tokens] == [False] * len(text) + [True] * (stop == "end")
    assert max(abs(each.log_ratio) for each in path.tokens) > 0.1


def test_every_mode_is_the_engines(llama: Backbone, planner: Planner) -> None:
    reply = said(PROMPTS["chat"])
    a, b = (torch.tensor(make_patch(llama, each, length=length).prefix) for each, length in (("a", 5), ("b", 7)))
    stack = Stack.parse("a:1,b:1")
    in_order = reply_path(llama, llama, reply, planner.plan(replace(stack, mode="sequential")))
    near(in_order, reply, llama, patched(llama, reply, [(torch.cat([a, b]), 1.0)]), plain(llama, reply))
    rows = torch.stack([plain(llama, reply), patched(llama, reply, [(a, 1.0)]), patched(llama, reply, [(b, 1.0)])])
    both = blended(rows, torch.tensor([-1.0, 1.0, 1.0])[:, None, None], torch.tensor([False]))
    near(reply_path(llama, llama, reply, planner.plan(replace(stack, mode="blend"))), reply, llama, both, plain(llama, reply))


@pytest.mark.parametrize("name", PROMPTS)
def test_without_a_patch_no_token_has_a_ratio(llama: Backbone, planner: Planner, name: str) -> None:
    for stack in (Stack(), Stack.parse("a:0,b:0"), replace(Stack.parse("a:0"), mode="blend")):
        path = reply_path(llama, llama, said(PROMPTS[name]), planner.plan(stack, PROMPTS[name]))
        assert all(abs(each.log_ratio) <= 1e-4 and each.apart <= 1e-4 for each in path.tokens) and path.fork is None
        assert [each.place for each in path.alternatives] == [path.other], "what chance drew is told and is no fork"


def test_an_adapter_is_compared_with_its_base(llama: Backbone, tmp_path: Path) -> None:
    merged = save_adapter(llama, tmp_path)
    reference, reply = with_adapter(llama, read_adapter(tmp_path, llama)), said(PROMPTS["chat"])
    path = reply_path(llama, reference, reply, StackPlan.adapted(reference.adapter))
    before, ids = llama.encode(reply.prompt), llama.tokenizer(reply.text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        lane = merged(input_ids=torch.tensor([[*before, *ids]])).logits[0, len(before) - 1:].log_softmax(-1)
    near(path, reply, llama, lane, plain(llama, reply))


def test_places_without_a_difference_have_no_alternatives(llama: Backbone, planner: Planner) -> None:
    path = reply_path(llama, llama, said(PROMPTS["chat"]), planner.plan(Stack.parse("a:1")))
    places = [each.place for each in path.alternatives]
    assert places == sorted(places) and {path.other, path.fork} - {None} <= {*places} and len(places) <= module.PLACES + 2
    most = sorted(range(len(path.tokens)), key=lambda k: -path.tokens[k].apart)[:module.PLACES]
    assert {k for k in most if path.tokens[k].apart >= APART} <= {*places}


def test_a_characters_bytes_and_control_tokens_have_no_text(llama: Backbone) -> None:
    path = reply_path(llama, llama, replace(said(PROMPTS["chat"]), text="é!", tokens=3))
    assert [each.text for each in path.tokens] == ["", "é", "!", ""] and path.tokens[-1].ends
    other = reply_path(llama, llama, replace(said(PROMPTS["chat"]), text="é!", tokens=5))
    assert other.resplit and [each.lane for each in other.tokens] == [each.lane for each in path.tokens]


def test_word_marks_are_those_that_were_written() -> None:
    """Metaspace puts a mark before every text; a model may have written none."""
    backbone = make_backbone("mistral", words="byte_fallback")
    the = backbone.tokenizer.convert_tokens_to_ids("▁the")
    prompt = Prompt("the", "continue")
    before = backbone.encode(prompt)
    for text, tokens in ((" the", [the]), ("the", backbone.tokenizer.convert_tokens_to_ids(["t", "h", "e"]))):
        reply = Reply("patched", 0, prompt, 0, text, len(tokens), "length")
        assert module.reply_ids(backbone, before, reply) == tokens
    assert module.reply_ids(backbone, before, Reply("patched", 0, prompt, 0, "", 0, "end")) == []


def test_what_cannot_be_compared_is_refused(llama: Backbone) -> None:
    reply = said(PROMPTS["chat"])
    with pytest.raises(InputError, match="different tokenizers"):
        reply_path(make_backbone("mistral", words="byte_fallback"), llama, reply)
    for text, stop in (("", "cancelled"), ("x" * (module.MOST + 1), "length")):
        with pytest.raises(InputError, match="a reply of"):
            reply_path(llama, llama, said(PROMPTS["chat"], stop, text))
    long = said(Prompt("x" * llama.context))
    with pytest.raises(ContextError):
        reply_path(llama, llama, long, BARE)
    assert math.isfinite(reply_path(llama, llama, said(PROMPTS["chat"], "end", "")).tokens[0].lane), "an empty reply has an end"
