"""A loaded model with its tokenizer, identity and chat format, as the engine uses it. See `loading` for how to load one."""

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
from patchlab.models.chat import MOST_OF_ALL, ChatFormat, Encoded
from patchlab.models.quantization import MARK, quantized_bits
from patchlab.models.views import decoder_layers
from patchlab.patches import BaseIdentity
from patchlab.records import Kind, Prompt


class Backbone:
    """A frozen causal language model with its tokenizer; its weights are never changed.

    The model is put into evaluation mode and its parameters do not require gradients; `wrap` copies a caller's model first.
    `stops` are the token ids that end a reply, `eos` is the one that ends a text (None without one), `unseen` are special
    tokens that decode to nothing. `fingerprints` are all fingerprints that a patch of this base may hold, the newest version
    first. Raises ModelError for a model that patches cannot be used with.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, name: str,
                 revision: str = "") -> None:
        check_architecture(model.config)
        if any(weight.is_meta for weight in model.parameters()):
            raise ModelError(f"weights of {name} that are not in memory", expected="every layer on a device",
                             do="load fewer models, use bits=8 or 4, or a machine with more memory")
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.chat = ChatFormat(tokenizer, name=name)
        self._check_vocabulary()
        self.fingerprints: tuple[str, ...] = (identities.fingerprint(model.parameters()),
                                              identities.legacy_fingerprint(model.state_dict()))
        self._templates = (identities.template_digest(self.chat.rendered), identities.digest(tokenizer.chat_template or ""))
        self.identity = BaseIdentity(id=name, revision=revision, fingerprint=self.fingerprints[0],
                                     tokenizer_digest=identities.digest(tokenizer.get_vocab()),
                                     template_digest=self._templates[0])
        ends = _ids(tokenizer.eos_token_id, model.config.eos_token_id, model.generation_config.eos_token_id)
        self.eos = next(iter(ends), None)
        self.stops = frozenset(ends if self.chat.end is None else (*ends, self.chat.end))
        self.unseen = frozenset(k for k, token in tokenizer.added_tokens_decoder.items()
                                if token.special and not tokenizer.decode([k], skip_special_tokens=True))
        self.origin: Backbone | None = None  # the base whose weights it shares, for a base with a low-rank adapter
        self.adapter: Any = None  # that `models.adapter.Adapter`
        self.static = False  # whether decode steps may be replayed as a CUDA graph
        self.scheduler: Any = None  # this model's scheduler, created by the engine at first use
        self.anchors: Any = None  # how patches are moved on this model, found by the engine at first use
        self.pieces: dict[int, str] = {}  # cache: the text of single tokens

    @property
    def bits(self) -> int | None:
        """The number of bits of the layers' weights, None if they are not quantised."""
        settings = getattr(self.model.config, "quantization_config", None)
        return getattr(self.model, MARK, None) or (quantized_bits(settings) if settings else None)

    @property
    def device(self) -> torch.device:
        """The device of the embedding table, on which inputs are expected."""
        return self.embeddings.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of weights, masks, keys and values."""
        return self.model.dtype

    @property
    def width(self) -> int:
        """D, the width of input embeddings."""
        return self.embeddings.shape[1]

    @property
    def context(self) -> int:
        """The maximum number of positions."""
        config = self.model.config
        rope = getattr(config, "rope_parameters", None) or {}
        if rope.get("rope_type") == "longrope":
            # beyond the original length its scaling depends on the longest row of the batch, so rows would affect each other
            return int(min(rope["original_max_position_embeddings"], config.max_position_embeddings))
        return int(config.max_position_embeddings)

    @property
    def embeddings(self) -> Tensor:
        """The input embedding table [V, D] as stored; some models scale it, see `embed`."""
        return self.model.get_input_embeddings().weight

    @property
    def layers(self) -> torch.nn.ModuleList:
        """The decoder layers, in order."""
        return decoder_layers(self.model)[1]

    @torch.no_grad()
    def embed(self, ids: Sequence[int] | Tensor) -> Tensor:
        """Input embeddings [T, D] of token ids, such that `inputs_embeds=embed(ids)` equals `input_ids=ids`.

        They include a scale that the embedding module applies (Gemma, sqrt(D)), but not one that the model applies to
        `inputs_embeds` itself (Granite).
        """
        return self.model.get_input_embeddings()(torch.as_tensor(ids, dtype=torch.long, device=self.device))

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt: through the chat template for kind `chat` if the model has one, else as plain text.

        Role markers and special tokens inside a message are broken up, so that text cannot start a turn. Raises InputError for
        a prompt that is empty or too long, or a conversation that the template rejects.
        """
        return self.encode_turns(prompt).ids

    def encode_turns(self, prompt: Prompt) -> Encoded:
        """As `encode`, with the places where the exchanges and the current turn of a conversation begin."""
        turns, plain = self._turns(prompt)
        encoded = self.chat.encoded(turns, plain=plain)
        if not encoded.ids:
            raise InputError("a prompt without any token", expected="some text", do="type a prompt")
        # some tokenizers append the end token to every text, which would end the reply before it begins
        ended = plain and len(encoded.ids) > 1 and encoded.ids[-1] in self.stops
        return encoded._replace(ids=encoded.ids[:-1]) if ended else encoded

    def rendered(self, prompt: Prompt) -> tuple[str, list[tuple[int, int]]]:
        """The text that `encode` reads, and the characters of it that each of its token ids stands for.

        Raises as `encode`, and ModelError for a tokenizer that cannot say.
        """
        turns, plain = self._turns(prompt)
        text = "\n".join(turn["content"] for turn in turns) if plain else self.chat.render(turns)
        if not self.tokenizer.is_fast:
            raise ModelError(f"the tokenizer of {self.name}, which does not say where its tokens are in a text",
                             expected="a fast tokenizer (tokenizer.json)", do="convert it with transformers")
        found = self.tokenizer(text, add_special_tokens=plain, return_offsets_mapping=True, verbose=False)
        return text, [(int(first), int(last)) for first, last in found["offset_mapping"]][:len(self.encode(prompt))]

    def _turns(self, prompt: Prompt) -> tuple[list[dict[str, str]], bool]:
        """The messages as a template reads them, and whether they are read as plain text."""
        system = [("system", prompt.system)] if prompt.system else []
        messages = [*system, *((message.role, message.content) for message in prompt.earlier), ("user", prompt.text)]
        total = sum(len(content) for _, content in messages)
        if total > MOST_OF_ALL:
            raise InputError(f"a conversation of {total:,} characters", expected=f"at most {MOST_OF_ALL:,}",
                             do="leave out its oldest messages")
        turns = [{"role": role, "content": self.chat.clean(content, reply=role == "assistant")}
                 for role, content in messages]
        return turns, prompt.kind == "continue" or not self.chat.source

    def encode_reply(self, text: str, *, kind: Kind = "chat", complete: bool = True) -> list[int]:
        """Token ids of a reply as the model would generate it.

        A complete reply ends with the template's end-of-turn token (`chat`) or the end-of-text token (`continue`); with
        `complete=False`, for replies cut at the length limit, no end token is added.
        """
        if kind == "continue" and not self._adds_space:
            text = f" {text}"
        end = self.chat.end if kind == "chat" and self.chat.end is not None else self.eos
        return [*self.chat.ids(text), *([end] if complete and end is not None else [])]

    @cached_property
    def _adds_space(self) -> bool:
        """Whether the tokenizer prepends a space to every text (Metaspace) or not (byte-level BPE)."""
        return self.chat.ids("so") * 2 == self.chat.ids("so so")

    def same_base(self, identity: BaseIdentity) -> bool:
        """Whether a patch with this base identity was made for these weights and this tokenizer."""
        return identities.mismatch(identity, self.identity, self.fingerprints) is None

    def template_differs(self, identity: BaseIdentity) -> bool:
        """Whether a patch was made with another chat template; it can still be used, perhaps with less effect."""
        return identity.template_digest not in self._templates

    def check_patch(self, identity: BaseIdentity, *, patch: str) -> None:
        """Raise BaseMismatchError, naming the difference, unless a patch was made for these weights and this tokenizer."""
        difference = identities.mismatch(identity, self.identity, self.fingerprints)
        if difference:
            what, theirs, ours = difference
            raise BaseMismatchError(f"patch {patch} was made for base {identity.id} with {what} ({theirs[:12]})",
                                    expected=f"this base, {self.name} ({ours[:12]})",
                                    do="load the patch's base, or install a patch made for this one")

    def _check_vocabulary(self) -> None:
        """Raise ModelError unless every token of text has an embedding; reserved tokens (image placeholders) may lack one."""
        rows, vocabulary = self.embeddings.shape[0], self.tokenizer.get_vocab()
        beyond = {token for token, k in vocabulary.items() if k >= rows}
        probe = self.chat.ids(self.chat.rendered[0] or "") if self.chat.source else []
        if beyond - self.chat.reserved.keys() or max(probe, default=0) >= rows:
            raise ModelError(f"an embedding table of {rows:,} rows and token ids up to {max(vocabulary.values()):,}",
                             expected="a row for every token", do="load the tokenizer that belongs to this model")


def _ids(*sources: int | Iterable[int] | None) -> tuple[int, ...]:
    """The token ids of all sources, each once, in order; a source is one id, several, or None."""
    lists = [source if isinstance(source, Iterable) else [source] for source in sources if source is not None]
    return tuple(dict.fromkeys(token for ids in lists for token in ids))
