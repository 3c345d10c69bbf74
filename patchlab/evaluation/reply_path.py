"""Where a reply leaves the path of the base: the probability of each of its tokens under the lane's model and under the base.

The reply is given to both models (teacher forcing), so at every place both have read the same prompt and the same words. The
probabilities are the models' own, before temperature and top-p.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from patchlab.engine import BARE, StackPlan
from patchlab.engine.detokenize import StreamedText
from patchlab.engine.likelihood import pad_texts, reply_logits
from patchlab.errors import InputError, ModelError
from patchlab.models import Backbone
from patchlab.records import Reply

MOST = 256  # tokens of a reply; the logits of all its places are in memory together
CANDIDATES = 5  # most likely tokens of a place
PLACES = 5  # with the largest differences, whose candidates are given
LIKELIER = math.log(2)  # log ratio from which a token counts as the doing of the lane and not of sampling
APART = 0.01  # total variation below which a place counts as unchanged
LOWEST = -60.0  # log-probability that stands for everything below it


class NextToken(NamedTuple):
    """A token that may come next, with its probability; without a text it ends the reply or is a part of a character."""

    text: str
    ends: bool
    probability: float


@dataclass(frozen=True, slots=True)
class ReplyToken:
    """A token of a reply: its log-probabilities (nats), and the total variation distance of the two distributions there."""

    text: str
    ends: bool
    lane: float
    base: float
    apart: float

    @property
    def log_ratio(self) -> float:
        """How much likelier the lane made it, in nats."""
        return self.lane - self.base


@dataclass(frozen=True, slots=True)
class Alternatives:
    """The most likely tokens at a place of a reply, most likely first, in the lane and in the base."""

    place: int
    lane: tuple[NextToken, ...]
    base: tuple[NextToken, ...]


@dataclass(frozen=True, slots=True)
class ReplyPath:
    """A reply's tokens, and the candidates at the places where lane and base differ most, in the reply's order.

    `other` is the first place at which the base's most likely token is another one than was written, `fork` the first such place
    whose token the lane made at least twice as likely; candidates are given for both. With `resplit` the text was not split
    into tokens exactly as it was written.
    """

    tokens: tuple[ReplyToken, ...]
    alternatives: tuple[Alternatives, ...]
    other: int | None
    fork: int | None
    resplit: bool = False

    def at(self, place: int) -> Alternatives:
        """The candidates of a place that has any."""
        return next(each for each in self.alternatives if each.place == place)


@torch.no_grad()
def reply_path(base: Backbone, backbone: Backbone, reply: Reply, plan: StackPlan = BARE) -> ReplyPath:
    """The path of a reply that `backbone` wrote with `plan`, beside the bare base; both read the reply's prompt.

    Raises InputError for a reply without tokens, one that is too long, or models with different tokenizers, ContextError if
    prompt and reply do not fit, ModelError for numbers that are not finite.
    """
    if base.identity.tokenizer_digest != backbone.identity.tokenizer_digest:
        raise InputError(f"{backbone.name} and {base.name} with different tokenizers", expected="one tokenizer for both",
                         do="compare models that share their tokenizer")
    before = backbone.encode_turns(reply.prompt)
    written = reply_ids(backbone, before.ids, reply)
    ended = reply.stop == "end" and bool(backbone.stops)
    count = len(written) + ended
    if not 1 <= count <= MOST:
        raise InputError(f"a reply of {count} tokens", expected=f"1 to {MOST}", do="run the prompt with another length")
    ids = [*written, *([min(backbone.stops)] if ended else [])]
    on = reply_logits(backbone, pad_texts(backbone, [(before, ids)]), plan).float().log_softmax(-1).to(base.device)
    off = reply_logits(base, pad_texts(base, [(base.encode_turns(reply.prompt), ids)])).float().log_softmax(-1)
    width = min(on.shape[-1], off.shape[-1])  # an embedding table may be padded beyond the vocabulary
    on, off = on[:, :width].clamp(min=LOWEST), off[:, :width].clamp(min=LOWEST)
    if bool(on.isnan().any() | off.isnan().any()):
        raise ModelError("probabilities that are not finite", expected="finite numbers", do="lower the strengths of the patches")
    if ended:  # of several tokens that end a reply, the likeliest
        ids[-1] = max(sorted(backbone.stops), key=lambda stop: float(on[-1, stop]))
    return _path(backbone, before.ids, ids, on, off, resplit=len(written) != reply.tokens)


def reply_ids(backbone: Backbone, before: Sequence[int], reply: Reply) -> list[int]:
    """The tokens of a reply's text, behind the prompt ids `before`, without the one that ended it.

    Of several ways to split the text, the first that spells it in as many tokens as were written.
    """
    if not reply.text:
        return []
    mark, marked = backbone.chat.ids("\n"), backbone.chat.ids(f"\n{reply.text}")
    # a tokenizer with word marks (Metaspace) puts one before every text, also where the model wrote none
    ways = [backbone.chat.ids(reply.text), backbone.chat.ids(reply.text.removeprefix(" ")),
            marked[len(mark):] if marked[:len(mark)] == mark else []]
    return max(ways, key=lambda ids: ("".join(_pieces(backbone, before, ids)) == reply.text, len(ids) == reply.tokens))


def _pieces(backbone: Backbone, before: Sequence[int], ids: Sequence[int]) -> list[str]:
    """The text that each token adds; a character of several tokens belongs to the last of them."""
    text = StreamedText(backbone, before)
    pieces = [text.add(token) for token in ids]
    return [*pieces[:-1], pieces[-1] + text.rest()] if pieces else []


def _path(backbone: Backbone, before: Sequence[int], ids: list[int], on: Tensor, off: Tensor, *, resplit: bool) -> ReplyPath:
    """The path from the log-probabilities [N, V] of the lane and of the base."""
    chosen = torch.tensor(ids, device=on.device)[:, None]
    lane, base = (each.gather(1, chosen)[:, 0].tolist() for each in (on, off))
    apart = (0.5 * (on.exp() - off.exp()).abs().sum(-1)).tolist()
    ends = [token in backbone.stops for token in ids]
    pieces = _pieces(backbone, before, ids)
    tokens = tuple(ReplyToken(*each) for each in zip(pieces, ends, lane, base, apart, strict=True))
    others = [k for k, token in enumerate(off.argmax(-1).tolist()) if token != ids[k]]
    other = next(iter(others), None)
    fork = next((k for k in others if tokens[k].log_ratio >= LIKELIER), None)
    most = sorted(range(len(ids)), key=lambda k: -apart[k])[:PLACES]
    places = {k for k in most if apart[k] >= APART} | {k for k in (other, fork) if k is not None}
    alternatives = tuple(Alternatives(k, *(_candidates(backbone, [*before, *ids[:k]], each[k]) for each in (on, off)))
                         for k in sorted(places))
    return ReplyPath(tokens, alternatives, other, fork, resplit)


def _candidates(backbone: Backbone, before: Sequence[int], logprobs: Tensor) -> tuple[NextToken, ...]:
    """The most likely next tokens of a distribution [V]."""
    values, ids = logprobs.topk(min(CANDIDATES, len(logprobs)))
    pairs = zip(values.exp().tolist(), ids.tolist(), strict=True)
    found = ((token, token in backbone.stops, chance) for chance, token in pairs)
    return tuple(NextToken("" if ends else _alone(backbone, before, token), ends, chance) for token, ends, chance in found)


def _alone(backbone: Backbone, before: Sequence[int], token: int) -> str:
    """The text of one token behind others; of a special token its name, of a part of a character nothing."""
    if token in backbone.unseen:
        return str(backbone.tokenizer.convert_ids_to_tokens(token))
    text = StreamedText(backbone, before)
    return (text.add(token) + text.rest()).replace("�", "")
