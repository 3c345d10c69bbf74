"""A base (or reference) as the rest uses it: model, tokenizer, identity and chat format. `loading` makes one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from patchlab.errors import BaseMismatchError, InputError, ModelError
from patchlab.models import identity as identities
from patchlab.models.architectures import check_architecture
from patchlab.models.chat import MOST_OF_ALL, ChatFormat
from patchlab.models.quantization import MARK, quantized_bits
from patchlab.patches import BaseIdentity
from patchlab.records import Kind, Prompt


class Backbone:
    """A frozen causal language model with its tokenizer; its weights are never changed.

    The model given is put into evaluation mode and its parameters ask for no gradients; `wrap` leaves a caller's own as it
    is. `stops` are the ids any of which ends a reply, `eos` the one that ends a text (None without one), `unseen` those that
    text never shows. `fingerprints` are all that patches of this base may hold, the newest version first. Raises ModelError
    for a model that cannot carry a patch.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, name: str,
                 revision: str = "") -> None:
        check_architecture(model.config)
        if any(weight.is_meta for weight in model.parameters()):
            raise ModelError(f"weights of {name} that are not in memory", expected="every layer on a device",
                             do="load fewer models, in bits=8 or 4, or on a machine with more memory")
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.chat = ChatFormat(tokenizer, name=name)
        self._check_vocabulary()
        self.fingerprints = (identities.fingerprint(model.parameters()), identities.legacy_fingerprint(model.state_dict()))
        self._templates = (identities.template_digest(self.chat.rendered), identities.digest(tokenizer.chat_template or ""))
        self.identity = BaseIdentity(id=name, revision=revision, fingerprint=self.fingerprints[0],
                                     tokenizer_digest=identities.digest(tokenizer.get_vocab()),
                                     template_digest=self._templates[0])
        ends = _listed(tokenizer.eos_token_id, model.config.eos_token_id, model.generation_config.eos_token_id)
        self.eos = next(iter(ends), None)
        self.stops = frozenset(ends if self.chat.end is None else (*ends, self.chat.end))
        self.unseen = frozenset(k for k, token in tokenizer.added_tokens_decoder.items()
                                if token.special and not tokenizer.decode([k], skip_special_tokens=True))
        self.static = False  # whether decode steps may be replayed as a CUDA graph
        self.scheduler: Any = None  # the one scheduler of this model, which the engine makes at first use
        self.pieces: dict[int, str] = {}  # the text of single tokens, kept by those who decoded them

    @property
    def bits(self) -> int | None:
        """How many bits the weights of the layers have, where they are quantised."""
        held = getattr(self.model.config, "quantization_config", None)
        return getattr(self.model, MARK, None) or (quantized_bits(held) if held else None)

    @property
    def device(self) -> torch.device:
        """Where the embedding table is; inputs go there."""
        return self.embeddings.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights and so of masks, keys and values."""
        return self.model.dtype

    @property
    def width(self) -> int:
        """D, the width of an input embedding."""
        return self.embeddings.shape[1]

    @property
    def context(self) -> int:
        """The most positions the model was made for."""
        config = self.model.config
        rope = getattr(config, "rope_parameters", None) or {}
        if rope.get("rope_type") == "longrope":
            # beyond its original length it scales every row by the longest of the batch: a row would not be itself
            return int(min(rope["original_max_position_embeddings"], config.max_position_embeddings))
        return int(config.max_position_embeddings)

    @property
    def embeddings(self) -> Tensor:
        """The input embedding table [V, D], as stored: `embed` gives what the model takes as input."""
        return self.model.get_input_embeddings().weight

    @property
    def layers(self) -> torch.nn.ModuleList:
        """The decoder layers, in order."""
        count = self.model.config.num_hidden_layers
        return next(m for m in self.model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == count)

    @torch.no_grad()
    def embed(self, ids: Sequence[int] | Tensor) -> Tensor:
        """Input embeddings [T, D] of token ids, such that `inputs_embeds=embed(ids)` is the same as `input_ids=ids`.

        Where the embedding module itself scales (Gemma, by sqrt(D)) they are scaled; a scale that the model applies to
        whatever it is given (Granite) is not in them.
        """
        return self.model.get_input_embeddings()(torch.as_tensor(ids, dtype=torch.long, device=self.device))

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt: by the chat template for `chat` where there is one, else as plain text.

        Marks of a turn inside any message are broken up, so that text cannot pose as a turn.
        Raises InputError for a prompt that is empty or overlong, or a conversation that the template refuses.
        """
        said = [("system", prompt.system)] if prompt.system else []
        said += [(message.role, message.content) for message in prompt.earlier]
        total = len(prompt.text) + sum(len(content) for _, content in said)
        if total > MOST_OF_ALL:
            raise InputError(f"a conversation of {total:,} characters", expected=f"at most {MOST_OF_ALL:,}",
                             do="leave out its oldest messages")
        turns = [{"role": role, "content": self.chat.clean(content, reply=role == "assistant")}
                 for role, content in (*said, ("user", prompt.text))]
        if prompt.kind == "chat" and self.chat.source:
            return self.chat.ids(self.chat.render(turns))
        ids = self.chat.ids("\n".join(turn["content"] for turn in turns), special=True)
        if not ids:
            raise InputError("a prompt that this tokenizer reads as nothing", expected="some text", do="type a prompt")
        # some tokenizers close every text with the end mark, which would end the reply before it began
        return ids[:-1] if len(ids) > 1 and ids[-1] in self.stops else ids

    def encode_reply(self, text: str, *, kind: Kind = "chat", complete: bool = True) -> list[int]:
        """Token ids of a reply as the model would have written it.

        A complete one ends with the token by which the chat template ends a turn (`chat`) or a text ends (`continue`); one
        cut at the length limit has no end mark.
        """
        if kind == "continue" and not self._adds_space:
            text = f" {text}"
        end = self.chat.end if kind == "chat" and self.chat.end is not None else self.eos
        return [*self.chat.ids(text), *([end] if complete and end is not None else [])]

    @cached_property
    def _adds_space(self) -> bool:
        """Whether the tokenizer itself puts a word's space in front of a text (metaspace) or not (byte level)."""
        return self.chat.ids("so") * 2 == self.chat.ids("so so")

    def same_base(self, identity: BaseIdentity) -> bool:
        """Whether a patch of this identity was made for these weights and this tokenizer."""
        return identities.mismatch(identity, self.identity, self.fingerprints) is None

    def template_differs(self, identity: BaseIdentity) -> bool:
        """Whether a patch was made with a chat template that writes otherwise: it may then do less, and still runs."""
        return identity.template_digest not in self._templates

    def check_patch(self, identity: BaseIdentity, *, patch: str) -> None:
        """Raise BaseMismatchError, naming what differs, unless a patch was made for these weights and this tokenizer."""
        found = identities.mismatch(identity, self.identity, self.fingerprints)
        if found is None:
            return
        what, theirs, ours = found
        raise BaseMismatchError(f"patch {patch} was made for base {identity.id} with {what} ({theirs[:12]})",
                                expected=f"this base, {self.name} ({ours[:12]})",
                                do="load the patch's base, or install a patch made for this one")

    def _check_vocabulary(self) -> None:
        """Every token that text can become has a row in the table; tokens of no text (an image's place) need none."""
        rows, vocabulary = self.embeddings.shape[0], self.tokenizer.get_vocab()
        beyond = {token for token, k in vocabulary.items() if k >= rows}
        probe = self.chat.ids(self.chat.rendered[0] or "") if self.chat.source else []
        if beyond - self.chat.reserved.keys() or max(probe, default=0) >= rows:
            raise ModelError(f"an embedding table of {rows:,} rows under a tokenizer with ids up to {max(vocabulary.values()):,}",
                             expected="a row for every token", do="load the tokenizer that belongs to this model")


def _listed(*sources: int | Iterable[int] | None) -> tuple[int, ...]:
    """The ids of all sources, each once, in order; a source may be an id, several, or none."""
    found: list[int] = []
    for source in sources:
        found += source if isinstance(source, Iterable) else [] if source is None else [source]
    return tuple(dict.fromkeys(found))
