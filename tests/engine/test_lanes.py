"""Streams: lanes, prompts and samples advance together, and no row's text depends on its company."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable, Sequence

import pytest
import torch
from made_models import CONTEXT, byte_fallback, make_backbone, make_patch, some_ids

from patchlab.engine import Bank, Blend, Lane, Sampling, replies, stream
from patchlab.engine.decode import Batch, Part, Row
from patchlab.engine.detokenize import Text
from patchlab.errors import ContextError, InputError
from patchlab.models import Backbone
from patchlab.records import Delta, Prompt

PROMPTS = [Prompt("Why is the sky so wide?"), Prompt("hi"), Prompt("Go on: once", kind="continue"),
           Prompt("Tell me about ducks", system="Be kind.")]
WARM = Sampling(temperature=1.0, max_new_tokens=14, seed=3)


def parts_of(backbone: Backbone, name: str = "a", length: int = 5, strength: float = 1.0) -> tuple[Part, ...]:
    return ((Bank(backbone).segment([make_patch(backbone, name, length=length)]), strength),)


def texts(steps: Iterable[tuple[Delta, ...]]) -> dict[tuple[str, int], str]:
    found: dict[tuple[str, int], str] = {}
    for step in steps:
        for delta in step:
            found[delta.lane, delta.row] = found.get((delta.lane, delta.row), "") + delta.text
    return found


def test_samples_do_not_depend_on_the_batch_or_its_order(backbone: Backbone) -> None:
    lanes = [Lane("base", backbone), Lane("patched", backbone, parts_of(backbone))]
    together = texts(stream(lanes, PROMPTS, samples=2, sampling=WARM))
    turned = texts(stream(lanes[::-1], PROMPTS[::-1], samples=2, sampling=WARM))
    assert len(together) == 2 * len(PROMPTS) * 2
    for (lane, row), text in together.items():
        prompt, sample = divmod(row, 2)
        assert turned[lane, (len(PROMPTS) - 1 - prompt) * 2 + sample] == text
    alone = texts(stream(lanes[1:], PROMPTS[1:2], samples=1, sampling=WARM))
    assert alone == {("patched", 0): together["patched", 2]}
    assert len(set(together.values())) > len(together) / 2  # and they are not all one text


def test_lanes_share_their_noise(llama: Backbone) -> None:
    """A patched lane whose patch is off is the base lane, token for token; where it is on, only the patch differs."""
    off = Lane("patched", llama, parts_of(llama, strength=0.0))
    deltas = [each for step in stream([Lane("base", llama), off], PROMPTS, samples=2, sampling=WARM) for each in step]
    by_lane = [[(d.row, d.text, d.tokens, d.done, d.stop) for d in deltas if d.lane == lane]
               for lane in ("base", "patched")]
    assert by_lane[0] == by_lane[1]
    on = texts(stream([Lane("base", llama), Lane("patched", llama, parts_of(llama))], PROMPTS, sampling=WARM))
    assert on["base", 0] != on["patched", 0]


def test_every_row_is_told_in_order_until_it_is_done(llama: Backbone) -> None:
    lanes = [Lane("patched", llama, parts_of(llama)), Lane("base", llama)]
    seen: dict[tuple[str, int], Delta] = {}
    for number, step in enumerate(stream(lanes, PROMPTS, samples=2, sampling=WARM), start=1):
        assert [(d.lane, d.row) for d in step] == sorted(
            ((d.lane, d.row) for d in step), key=lambda each: (["patched", "base"].index(each[0]), each[1]))
        for delta in step:
            assert not ((delta.lane, delta.row) in seen and seen[delta.lane, delta.row].done)
            assert delta.tokens == (number - 1 if delta.stop == "end" else number)
            assert delta.done == (delta.stop is not None)
            seen[delta.lane, delta.row] = delta
    assert len(seen) == 16 and all(delta.done for delta in seen.values())


def test_rows_that_stop_leave_the_others_as_they_are(llama: Backbone) -> None:
    """Rows end at their own steps; each text is the one the row has alone."""
    sampling = Sampling(temperature=1.0, max_new_tokens=60, seed=1)
    prompts = [Prompt(f"number {k}") for k in range(8)]
    backbone = often_stopping()
    lane = Lane("patched", backbone, parts_of(backbone))
    last: dict[int, Delta] = {}
    steps = list(stream([lane], prompts, sampling=sampling))
    for step in steps:
        last.update({delta.row: delta for delta in step})
    together = texts(steps)
    assert {delta.stop for delta in last.values()} == {"end"} and len({d.tokens for d in last.values()}) > 4
    for row, prompt in enumerate(prompts):
        assert texts(stream([lane], [prompt], sampling=sampling)) == {("patched", 0): together["patched", row]}


def often_stopping(stops: Iterable[int] = range(100, 130)) -> Backbone:
    """A backbone that takes many tokens for closing marks."""
    plain = make_backbone("qwen2")
    backbone = Backbone(plain.model, plain.tokenizer, name="often stopping")
    backbone.stops = frozenset(stops)
    return backbone


def test_two_backbones_with_other_tokenizers_stream_together() -> None:
    base, reference = make_backbone("llama"), make_backbone("mistral", words="byte_fallback")
    assert base.embeddings.shape[0] != reference.embeddings.shape[0]
    lanes = [Lane("base", base), Lane("patched", base, parts_of(base)), Lane("reference", reference)]
    steps = list(stream(lanes, PROMPTS, samples=2, sampling=WARM))
    assert {delta.lane for delta in steps[0]} == {"base", "patched", "reference"}  # all advance in one step
    together = texts(steps)
    for lane in lanes:
        alone = texts(stream([lane], PROMPTS, samples=2, sampling=WARM))
        assert alone == {key: text for key, text in together.items() if key[0] == lane.name}


def test_replies_are_streams_drained_whatever_the_chunk(llama: Backbone) -> None:
    lanes = [Lane("base", llama), Lane("patched", llama, parts_of(llama))]
    streamed = texts(stream(lanes, PROMPTS, samples=2, sampling=WARM))
    for rows in (1, 8, 96):
        chunks = list(replies(lanes, PROMPTS, samples=2, sampling=WARM, rows=rows))
        assert len(chunks) == {1: 4, 8: 2, 96: 1}[rows]
        found = [reply for chunk in chunks for reply in chunk]
        assert {(r.lane, r.row): r.text for r in found} == {key: text.strip() for key, text in streamed.items()}
        assert all(r.prompt is PROMPTS[r.row // 2] and r.sample == r.row % 2 for r in found)


def test_a_stream_never_changes_a_weight(backbone: Backbone, weights: Callable[[Backbone], str]) -> None:
    before = weights(backbone)
    texts(stream([Lane("base", backbone), Lane("patched", backbone, parts_of(backbone))], PROMPTS[:2], sampling=WARM))
    assert weights(backbone) == before
    assert not any(p.requires_grad or p.grad is not None for p in backbone.model.parameters())


Held = Callable[[], list["weakref.ref[torch.Tensor]"]]


# These look at what is alive at once, without the garbage collector: on a full device there is no time for it.
@pytest.mark.parametrize("steps", [1, 4])
def test_closing_a_stream_frees_its_memory(llama: Backbone, held: Held, steps: int) -> None:
    lanes = [Lane("base", llama), Lane("patched", llama, parts_of(llama)), Lane("blended", llama, Blend(parts_of(llama)))]
    running = stream(lanes, PROMPTS, sampling=WARM)
    for _ in range(steps):
        next(running)
    blocks = held()
    assert len(blocks) == 4 and all(block() is not None for block in blocks)
    running.close()
    assert all(block() is None for block in blocks)
    assert held() == []


def out_of_memory(*_: object, **__: object) -> None:
    raise RuntimeError("out of memory")


def test_a_stream_that_breaks_frees_its_memory(llama: Backbone, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    running = stream([Lane("base", llama)], PROMPTS, sampling=WARM)
    next(running)
    blocks = held()
    assert len(blocks) == 4
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(sys.modules["patchlab.engine.scheduler"], "choose", out_of_memory)
        next(running)
    assert held() == []


def test_a_stream_read_to_its_end_holds_nothing(llama: Backbone, held: Held) -> None:
    opened = stream([Lane("base", llama)], PROMPTS, sampling=WARM)
    next(opened)
    done = stream([Lane("base", llama)], PROMPTS, sampling=WARM)
    list(done)
    assert len(held()) == 4  # of the one still open
    opened.close()


def test_a_backbone_whose_rows_are_done_lets_go_while_others_run(held: Held) -> None:
    quick, slow = often_stopping(range(259)), make_backbone("llama")
    running = stream([Lane("base", quick), Lane("reference", slow)], PROMPTS[:1],
                     sampling=Sampling(temperature=1.0, max_new_tokens=40, seed=2))
    assert [(delta.lane, delta.done) for delta in next(running)] == [("base", True), ("reference", False)]
    assert len(held()) == 4  # two layers of the slow one
    running.close()


def test_rows_that_leave_give_their_memory_back_at_once(llama: Backbone, held: Held) -> None:
    batch = Batch(llama, [Row(some_ids(6, seed=k), parts_of(llama)) for k in range(4)], room=4)
    batch.prefill()
    blocks = held()
    assert len(blocks) == 4
    batch.keep([1, 3])
    assert all(block() is None for block in blocks)
    assert all(layer.block_keys.shape[0] == 2 for layer in batch.cache.layers)


def test_the_context_error_counts_what_is_needed(llama: Backbone) -> None:
    lanes = [Lane("base", llama), Lane("patched", llama, parts_of(llama, length=20))]
    prompt = Prompt("x" * 40, kind="continue")  # one token a character
    assert len(list(stream(lanes, [prompt], sampling=Sampling(max_new_tokens=CONTEXT - 60)))) > 0
    with pytest.raises(ContextError) as caught:
        stream(lanes, [prompt], sampling=Sampling(max_new_tokens=CONTEXT - 59))  # before the first step
    assert str(caught.value).startswith(
        f"{CONTEXT + 1} tokens needed by lane 'patched' (40 for the prompt's 40 characters, {CONTEXT - 59} for the reply, "
        f"20 for the patch); "
        f"expected at most {CONTEXT}")


@pytest.mark.parametrize(("prompts", "samples"), [([], 1), (PROMPTS, 0)])
def test_nothing_asked_is_an_error_and_not_a_crash(llama: Backbone, prompts: list[Prompt], samples: int) -> None:
    with pytest.raises(InputError, match="one or more"):
        stream([Lane("base", llama)], prompts, samples=samples)


SENTENCES = ["The cat 😀 sat. Naïve café — 你好 👩‍👧!", "😀🎉", "e\u0301 and  two  spaces", "plain words"]


@pytest.mark.parametrize("words", ["byte_level", "byte_fallback"])
@pytest.mark.parametrize("before", ["so", "so 😀", "🎉🎉", "line\n"])
@pytest.mark.parametrize("sentence", SENTENCES)
def test_streamed_pieces_join_to_the_decoded_text(words: str, before: str, sentence: str) -> None:
    backbone = make_backbone("llama", words=words)
    prompt = backbone.encode(Prompt(before, kind="continue"))
    tokens = backbone.tokenizer(sentence, add_special_tokens=False)["input_ids"]
    text = Text(backbone, prompt)
    pieces = [text.add(token) for token in tokens]
    assert not any("�" in piece for piece in pieces)
    whole = decode(backbone, [*prompt, *tokens])
    assert decode(backbone, prompt) + "".join(pieces) + text.rest() == whole
    assert whole.endswith(sentence)
    assert text.count == len(tokens)


def decode(backbone: Backbone, tokens: Sequence[int]) -> str:
    return str(backbone.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def test_bytes_that_are_no_character_come_out_as_they_decode() -> None:
    """Random bytes are mostly no text; pieces still join to the decoded whole, the last half character with the end."""
    backbone = make_backbone("llama")
    prompt = backbone.encode(PROMPTS[2])
    for seed in range(20):
        tokens = some_ids(30, seed=seed)
        text = Text(backbone, prompt)
        joined = "".join([*map(text.add, tokens), text.rest()])
        assert decode(backbone, prompt) + joined == decode(backbone, [*prompt, *tokens])


def test_a_mark_that_is_not_shown_costs_no_space() -> None:
    backbone = make_backbone("llama", words="byte_fallback")
    tokens = byte_fallback()("the the", add_special_tokens=False)["input_ids"]
    text = Text(backbone, backbone.encode(Prompt("so", kind="continue")))
    assert "".join([text.add(tokens[0]), text.add(1), text.add(tokens[1]), text.rest()]) == " the the"


def test_a_stream_is_the_batch_sampled(llama: Backbone) -> None:
    """At temperature 0 the texts are the likeliest tokens of the logits that the laws are held on."""
    lane = Lane("patched", llama, parts_of(llama))
    streamed = texts(stream([lane], PROMPTS[:1], sampling=Sampling(temperature=0, max_new_tokens=10)))
    ids = llama.encode(PROMPTS[0])
    batch = Batch(llama, [Row(ids, lane.parts)], room=10)
    tokens = [int(batch.prefill().argmax())]
    while len(tokens) < 10 and tokens[-1] not in llama.stops:
        tokens.append(int(batch.step(tokens[-1:]).argmax()))
    kept = [token for token in tokens if token not in llama.stops]
    assert decode(llama, ids) + streamed["patched", 0] == decode(llama, [*ids, *kept])
