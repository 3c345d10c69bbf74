"""A lab: what can be asked, of which lanes, with which stack; and what is loaded."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from made_models import CONTEXT, byte_level, make_backbone, make_model, make_patch, put, saved

from patchlab.engine import Lab, Sampling, load
from patchlab.engine import lanes as stack_lanes
from patchlab.engine.lab import prompts_of
from patchlab.errors import BaseMismatchError, ContextError, InputError, NotFoundError, StackError
from patchlab.patches import Stack
from patchlab.patches.stack import MODES
from patchlab.records import Message, Prompt, Reply
from patchlab.registry import Registry

BRIEF = Sampling(temperature=1.0, max_new_tokens=8, seed=5)
PROMPTS = [Prompt("hello"), Prompt("and who are you?")]
TURNS = [Message("user", "hello"), Message("assistant", "hi there"), Message("user", "who are you?")]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """With the patches calm (strength 0.5), kind, and one, named alien, that was made for another base."""
    base = make_backbone("llama")
    put(make_patch(base, "calm", length=4, strength=0.5), tmp_path)
    put(make_patch(base, "kind", length=6), tmp_path)
    put(make_patch(make_backbone("llama", seed=1), "alien", length=4), tmp_path)
    return Lab(base, make_backbone("mistral", words="byte_fallback"), registry=Registry([tmp_path]))


def said(replies: list[Reply], lane: str = "patched") -> list[str]:
    return [reply.text for reply in replies if reply.lane == lane]


def test_lanes_stay_in_order_and_only_the_patched_one_changes(lab: Lab) -> None:
    off = lab.replies(PROMPTS, stack=Stack.parse("none"), samples=2, sampling=BRIEF)
    on = lab.replies(PROMPTS, stack=Stack.parse("calm:1,kind"), samples=2, sampling=BRIEF)
    assert lab.lane_names == ("base", "patched", "reference")
    for found in (off, on):
        assert [(r.lane, r.row) for r in found] == [(lane, row) for lane in lab.lane_names for row in range(4)]
    assert said(off, "base") == said(on, "base") == said(off) != said(on)
    assert said(off, "reference") == said(on, "reference") != said(off, "base")
    some = lab.replies(PROMPTS, stack="calm:1,kind", samples=2, sampling=BRIEF, lanes=("patched",))
    assert [(r.lane, r.text) for r in some] == [("patched", text) for text in said(on)]
    turned = lab.replies(PROMPTS, stack="calm:1,kind", samples=2, sampling=BRIEF, lanes=("reference", "patched"))
    assert [r.lane for r in turned] == ["reference"] * 4 + ["patched"] * 4 and said(turned) == said(on)


def test_any_order_of_a_blend_says_the_same(lab: Lab) -> None:
    texts = {order: said(lab.replies(PROMPTS, stack=Stack.parse(order, mode="blend"), sampling=BRIEF))
             for order in ("kind,calm:1", "calm:1,kind", "none")}
    assert texts["kind,calm:1"] == texts["calm:1,kind"] != texts["none"]
    assert texts["none"] == said(lab.replies(PROMPTS, sampling=BRIEF))


def test_without_a_reference_the_lanes_are_base_and_patched(lab: Lab) -> None:
    alone = Lab(lab.base, registry=lab.registry)
    assert alone.lane_names == ("base", "patched") and alone.reference is None and alone.reference_scheduler is None
    found, all_three = (each.replies(PROMPTS, stack="kind", sampling=BRIEF) for each in (alone, lab))
    assert [(r.lane, r.text) for r in found] == [(r.lane, r.text) for r in all_three if r.lane != "reference"]
    with pytest.raises(NotFoundError, match="lane 'reference'"):
        alone.stream("hello", lanes=["reference"])


def test_a_name_and_what_is_loaded_say_what_a_lab_is(lab: Lab) -> None:
    assert lab.name == "tiny-llama" and lab.about == ""
    named = Lab(lab.base, registry=lab.registry, name="mine", about="A made model.")
    assert (named.name, named.about) == ("mine", "A made model.")
    assert named.registry is lab.registry and named.planner.base is named.base is named.scheduler.backbone


@pytest.mark.parametrize(("asked", "prompts"), [
    ("hello", [Prompt("hello")]),
    (Prompt("hello", "continue"), [Prompt("hello", "continue")]),
    (["hello", Prompt("who?", system="Be kind.")], [Prompt("hello"), Prompt("who?", system="Be kind.")]),
    (("hello", "hello"), [Prompt("hello"), Prompt("hello")]),
    (TURNS, [Prompt("who are you?", earlier=(TURNS[0], TURNS[1]))]),
    ([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hello"}], [Prompt("hello", system="Be kind.")]),
    ([TURNS[0], {"role": "assistant", "content": "hi there"}, TURNS[2]], [Prompt("who are you?", earlier=(TURNS[0], TURNS[1]))])])
def test_prompts_are_texts_prompts_or_one_conversation(asked: Any, prompts: list[Prompt]) -> None:
    assert prompts_of(asked) == prompts


@pytest.mark.parametrize(("asked", "told"), [
    ([], "nothing to ask in a list"), (None, "nothing to ask in a NoneType"), (7, "nothing to ask in a int"),
    ({"role": "user", "content": "hello"}, "nothing to ask in a dict"), ([7], "a int among prompts"),
    (b"hello", "a int among prompts"), ([TURNS, TURNS], r"a list among prompts; .*Prompt\.of\(messages\) for each"),
    (["hello", TURNS[0]], "a Message among prompts"), ([{"role": "user"}], "a message that is"),
    ([TURNS[0], TURNS[1]], "ends in assistant message"),
    ([{"role": "robot", "content": "hello"}], "role 'robot'"), ([TURNS[1], TURNS[2]], "the roles assistant, user")])
def test_what_cannot_be_asked_is_said(asked: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        prompts_of(asked)


def test_generate_is_one_lane_of_one_prompt_or_conversation(lab: Lab) -> None:
    found = lab.replies(PROMPTS, stack="kind", sampling=BRIEF)
    assert lab.generate("hello", stack="kind", sampling=BRIEF) == said(found)[0]
    assert lab.generate(PROMPTS[1], lane="base", sampling=BRIEF) == said(found, "base")[1]
    later = lab.generate(TURNS, stack="kind", sampling=BRIEF)
    assert later == said(lab.replies([Prompt.of(TURNS)], stack="kind", sampling=BRIEF))[0]
    assert later != lab.generate("who are you?", stack="kind", sampling=BRIEF)
    with pytest.raises(InputError, match="2 prompts; expected one prompt or one conversation"):
        lab.generate(["hello", "who?"])  # type: ignore[list-item]


def test_patched_is_the_stack_of_the_calls_inside_that_name_none(lab: Lab) -> None:
    """Nested, left again in any way, and one's own in each thread."""
    def kind() -> str:
        return lab.generate("hello", sampling=BRIEF)

    texts = {stack: lab.generate("hello", stack=stack, sampling=BRIEF) for stack in ("none", "kind", "calm:1")}
    assert len(set(texts.values())) == 3 and kind() == texts["none"]
    inside, outside = threading.Event(), threading.Event()
    heard: list[str] = []

    def other() -> None:
        inside.wait()
        heard.append(kind())  # of a stack that another thread uses, nothing
        with lab.patched("calm:1"):
            outside.set()
            heard.append(kind())

    thread = threading.Thread(target=other)
    thread.start()
    with lab.patched("kind") as same:
        assert same is lab
        inside.set()
        outside.wait()
        with pytest.raises(ZeroDivisionError), lab.patched(Stack.parse("calm:1")):
            assert kind() == texts["calm:1"]
            raise ZeroDivisionError
        assert kind() == texts["kind"]
        assert lab.generate("hello", stack="none", sampling=BRIEF) == texts["none"]
        assert lab.generate("hello", lane="base", sampling=BRIEF) == texts["none"]
        running = lab.stream("hello", lanes=["patched"], sampling=BRIEF)
    thread.join()
    assert heard == [texts["none"], texts["calm:1"]] and kind() == texts["none"]
    # a stream has the stack of where it was begun, wherever it is read
    assert "".join(delta.text for step in running for delta in step).strip() == texts["kind"]


def test_what_cannot_be_used_is_refused_before_the_first_step(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(BaseMismatchError, match=r"alien 1\.0\.0"):
        lab.stream(PROMPTS, stack="alien")
    with pytest.raises(NotFoundError, match="'calm'"):
        lab.stream(PROMPTS, stack="clam")
    with pytest.raises(NotFoundError, match="patched"):
        lab.stream(PROMPTS, lanes=["pached"])
    with pytest.raises(InputError, match="0 samples"):
        lab.stream(PROMPTS, samples=0)
    with pytest.raises(StackError, match="patch name"):
        lab.patched("Calm").__enter__()
    for name in ("long", "longer"):
        put(make_patch(lab.base, name, length=CONTEXT // 2), tmp_path)
    with pytest.raises(ContextError, match=f"{CONTEXT + 4} positions needed by the patch alone"):
        lab.stream(PROMPTS, stack=Stack.parse("long:1,longer:1,calm:1", mode="sequential"))
    for mode in MODES[::2]:  # side by side they take no more positions than the longest
        with pytest.raises(ContextError, match=f"{CONTEXT // 2} for the patch"):
            lab.stream(PROMPTS, stack=Stack.parse("long,longer", mode=mode), sampling=Sampling(max_new_tokens=CONTEXT // 2))
        assert lab.replies(PROMPTS[:1], stack=Stack.parse("long,longer,kind", mode=mode), sampling=BRIEF)
    assert lab.scheduler.in_flight == 0


def test_a_model_that_is_loaded_already_is_taken_as_it_is(tmp_path: Path) -> None:
    model, tokenizer = make_model("llama", vocabulary=len(byte_level())), byte_level()
    mine = load(model=model, tokenizer=tokenizer, registry=Registry([]))
    assert mine.base.embeddings.data_ptr() == model.get_input_embeddings().weight.data_ptr() and mine.reference is None
    base, safer = (saved(make_backbone(family), tmp_path / family) for family in ("llama", "gpt2"))
    folder = load(base=base, reference=safer, device="cpu", registry=Registry([]))
    assert folder.name == "llama" and folder.reference is not None and folder.reference.model.config.model_type == "gpt2"
    assert mine.generate("hello", sampling=BRIEF) == folder.generate("hello", sampling=BRIEF)


def test_what_is_loaded_is_one_thing() -> None:
    tokenizer = byte_level()
    for given in ({"name": "pocket", "base": "here"}, {"tokenizer": tokenizer}, {"model": object()},
                  {"base": "here", "tokenizer": tokenizer}, {"base": "here", "model": object(), "tokenizer": tokenizer}):
        with pytest.raises(InputError, match="expected a preset, a base, or a model with its tokenizer"):
            load(**given)  # type: ignore[arg-type]
    with pytest.raises(NotFoundError, match="pocket"):
        load("pockte")


def test_the_oldest_exchanges_go_where_a_conversation_does_not_fit(tmp_path: Path) -> None:
    lab = Lab(make_backbone("llama"), registry=Registry([tmp_path]))
    turns = tuple(Message(role, "go") for _ in range(3) for role in ("user", "assistant"))  # type: ignore[arg-type]
    long = Prompt("on", earlier=turns)
    with pytest.raises(ContextError, match="leave out the oldest turns"):
        lab.check(long, sampling=BRIEF)
    short = lab.fitted(long, sampling=BRIEF)
    assert 0 < len(short.earlier) < 6 and short.earlier == turns[-len(short.earlier):]
    lab.check(short, sampling=BRIEF)
    assert lab.fitted(short, sampling=BRIEF) == short
    with pytest.raises(ContextError, match="shorten the prompt"):
        lab.fitted(Prompt("x" * CONTEXT, earlier=turns), sampling=BRIEF)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_base_that_cannot_anchor_says_so_for_conversations_only(family: str, tmp_path: Path) -> None:
    base = make_backbone(family)
    put(make_patch(base, "calm", length=4), tmp_path)
    planner = Lab(base, registry=Registry([tmp_path])).planner
    prompts = [Prompt("hello"), Prompt("on", earlier=(Message("user", "go"), Message("assistant", "yes")))]
    told = [bool(plan.warnings) for plan in planner.plans(Stack.parse("calm"), prompts)]
    assert told == [False, family == "gpt2"]
    assert not any(plan.warnings for plan in planner.plans(Stack.parse("calm", placement="front"), prompts))


def test_further_lanes_have_stacks_of_their_own_and_change_no_other(lab: Lab) -> None:
    stacks = {"patched": Stack.parse("calm"), "second": Stack.parse("kind:0.5,calm"), "third": Stack()}
    found = stack_lanes.replies(lab.lanes(stacks.pop("patched"), others=stacks), PROMPTS, sampling=BRIEF)
    assert list(dict.fromkeys(reply.lane for reply in found)) == ["base", "patched", "second", "third", "reference"]
    alone = lab.replies(PROMPTS, stack="calm", sampling=BRIEF)
    assert [reply for reply in found if reply.lane in lab.lane_names] == alone
    for name, stack in stacks.items():
        assert said(found, name) == said(lab.replies(PROMPTS, stack=stack, sampling=BRIEF))
    assert said(found, "third") == said(found, "base")


def test_a_further_lane_needs_a_name_of_its_own(lab: Lab) -> None:
    with pytest.raises(InputError, match="each name once"):
        lab.lanes(others={"reference": Stack()})
    with pytest.raises(NotFoundError, match="unknown lane 'third'"):
        lab.lanes(None, ["base", "third"], others={"second": Stack()})
