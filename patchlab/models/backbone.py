"""A base (or reference) loaded: model, tokenizer and identity. The only place that opens model folders."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as hf_logging

from patchlab.errors import BaseMismatchError, InputError, ModelError, PatchLabError
from patchlab.models.architectures import check_architecture
from patchlab.models.cpu_kernels import pack
from patchlab.models.quantization import MARK, library, narrow
from patchlab.patches import BaseIdentity
from patchlab.records import Prompt

MOST_CHARACTERS = 20_000  # a prompt longer than this is refused before it is tokenized
SAMPLED = 256  # values of each tensor that the fingerprint reads


class Backbone:
    """A frozen causal language model with its tokenizer; nothing here ever changes a weight."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, name: str,
                 revision: str = "") -> None:
        check_architecture(model.config)
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.identity = BaseIdentity(
            id=name, revision=revision, fingerprint=fingerprint(model.state_dict()),
            tokenizer_digest=_digest(tokenizer.get_vocab()), template_digest=_digest(tokenizer.chat_template or ""))
        self.stops = _stop_ids(model, tokenizer)
        self._specials = sorted({str(t) for t in tokenizer.all_special_tokens} |
                                {t.content for t in tokenizer.added_tokens_decoder.values() if t.special})
        # ids that text never shows
        self.unseen = frozenset(k for k, token in tokenizer.added_tokens_decoder.items()
                                if token.special and not tokenizer.decode([k], skip_special_tokens=True))
        self.static = False  # whether decode steps may be replayed as a CUDA graph: see `static`
        self.pieces: dict[int, str] = {}  # what single tokens say, kept by those who turned them into text
        # any text may hold what a tokenizer does not know
        self._reserved = {tokenizer.convert_tokens_to_ids(mark) for mark in self._specials} - {tokenizer.unk_token_id}

    @classmethod
    def load(cls, source: str | Path, *, revision: str | None = None, device: str | None = None,
             dtype: torch.dtype | None = None, bits: int | None = None, packed: bool = True) -> Backbone:
        """Open a model folder or Hub id: safetensors only, no code from the folder. Raises ModelError.

        With `bits`, 8 or 4, the weights of its layers are narrowed once they are loaded, and read as they were: see `narrow`.
        Where it helps they are also `packed` (see there), after which they may not be changed.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if bits is not None:
            library(bits)  # what is missing is found out before anything is loaded
        shared: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
        try:
            config = AutoConfig.from_pretrained(source, **shared)
            check_architecture(config)
            tokenizer = AutoTokenizer.from_pretrained(source, **shared)
            # on a CPU 32 bits are both faster and exact for small models; a GPU takes 16
            dtype = dtype or (torch.float32 if device == "cpu" and _small(config) else torch.bfloat16)
            # logit soft-capping exists in eager attention only
            attention = "eager" if getattr(config, "attn_logit_softcapping", None) else "sdpa"
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source, dtype=dtype, attn_implementation=attention, use_safetensors=True, device_map=device,
                output_loading_info=True, **shared)
            model, info = loaded
            if info["missing_keys"]:  # the library would fill them with noise and say nothing
                raise ValueError(f"the weights lack {min(info['missing_keys'])}")
        except PatchLabError:
            raise
        except Exception as error:  # safetensors and tokenizers raise bare exceptions of their own
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            raise ModelError(f"model {str(source)!r} cannot be loaded ({reason})",
                             expected="a folder or Hub id with config.json, tokenizer and safetensors weights",
                             do="check the path or id, the network, and your access to the model") from error
        made = cls(model, tokenizer, name=Path(source).name if Path(source).is_dir() else str(source),
                   revision=revision or "")
        if bits:
            narrow(made.model, bits)  # with its identity known: it is still that base
        if packed:
            pack(made.model)
        return made

    @property
    def fingerprints(self):
        return (self.identity.fingerprint,)

    def same_base(self, identity):
        return identity.fingerprint in self.fingerprints

    def template_differs(self, identity):
        return identity.template_digest != self.identity.template_digest

    @property
    def bits(self) -> int | None:
        """How many bits the weights of the layers have, where they were narrowed."""
        return getattr(self.model, MARK, None)

    @property
    def device(self) -> torch.device:
        """Where the first layer lives; inputs go there."""
        return self.model.device

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
        """The input embedding table [V, D]."""
        return self.model.get_input_embeddings().weight

    @property
    def layers(self) -> torch.nn.ModuleList:
        """The decoder layers, in order."""
        count = self.model.config.num_hidden_layers
        return next(m for m in self.model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == count)

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt: by the chat template for `chat` where there is one, else as plain text.

        Marks of the template inside the visitor's text are broken up, so that text cannot pose as a turn.
        Raises InputError for an empty or overlong prompt.
        """
        text = self._clean(prompt.text)
        system = self._clean(prompt.system) if prompt.system else ""
        if prompt.kind == "chat" and self.tokenizer.chat_template:
            turns = [{"role": "system", "content": system}] if system else []
            rendered = self._render([*turns, {"role": "user", "content": text}])
            return self.tokenizer(rendered, add_special_tokens=False)["input_ids"]
        ids = self.tokenizer(f"{system}\n{text}" if system else text)["input_ids"]
        if not ids:
            raise InputError("a prompt that this tokenizer reads as nothing", expected="some text", do="type a prompt")
        # some tokenizers close every text with the end mark, which would end the reply before it began
        return ids[:-1] if len(ids) > 1 and ids[-1] in self.stops else ids

    def encode_reply(self, text: str, *, kind: str = "chat", complete: bool = True) -> list[int]:
        """Token ids of a reply as the model would have written it, with the closing mark."""
        if kind == "continue" and not self._adds_space:
            text = f" {text}"
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [*ids, min(self.stops)] if self.stops and complete else ids

    @property
    def _adds_space(self) -> bool:
        """Whether the tokenizer itself puts a word's space in front of a text (metaspace) or not (byte level)."""
        a = self.tokenizer("so", add_special_tokens=False)["input_ids"]
        b = self.tokenizer("so so", add_special_tokens=False)["input_ids"]
        return a * 2 == b

    def check_patch(self, identity: BaseIdentity, *, patch: str) -> None:
        """Raise BaseMismatchError unless a patch was made for this very base."""
        if identity.fingerprint != self.identity.fingerprint:
            raise BaseMismatchError(
                f"patch {patch} was made for base {identity.id} ({identity.fingerprint[:12]})",
                expected=f"this base, {self.name} ({self.identity.fingerprint[:12]})",
                do="load the patch's base, or install a patch made for this one")
        if identity.tokenizer_digest != self.identity.tokenizer_digest:
            raise BaseMismatchError(f"patch {patch} was made with another tokenizer ({identity.tokenizer_digest[:12]})",
                                    expected=f"this one ({self.identity.tokenizer_digest[:12]})",
                                    do="load the tokenizer the patch was trained with")

    def _render(self, turns: list[dict[str, str]]) -> str:
        try:
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        except TemplateError as error:  # some templates know no system turn
            raise InputError(f"a chat that the template of {self.name} refuses ({str(error)[:80]})",
                             expected=f"turns other than {', '.join(turn['role'] for turn in turns)}",
                             do="leave out the system instruction") from error

    def _clean(self, text: str) -> str:
        if not text.strip():
            raise InputError("an empty prompt", expected="some text", do="type a prompt")
        if len(text) > MOST_CHARACTERS:
            raise InputError(f"a prompt of {len(text):,} characters", expected=f"at most {MOST_CHARACTERS:,}",
                             do="shorten it")
        text = "".join(c for c in text if c in "\n\t" or (ord(c) >= 32 and not 0x7F <= ord(c) < 0xA0))
        text = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates cannot be tokenized
        for mark in self._specials:
            text = text.replace(mark, f"{mark[:1]} {mark[1:]}" if len(mark) > 1 else " ")
        if not text.strip():
            raise InputError("a prompt of control characters only", expected="some text", do="type a prompt")
        # a tokenizer may see a mark where the characters are others, by its normalization
        if self._reserved.intersection(self.tokenizer(text, add_special_tokens=False)["input_ids"]):
            raise InputError("a prompt that spells one of the model's own marks", expected="plain text", do="reword it")
        return text


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """The identity of a set of weights: names, shapes and an even sample of values rounded to bf16, hashed.

    Independent of the dtype a model is loaded in. It tells models apart; it is no proof against a forger.
    """
    digest = hashlib.sha256()
    seen: set[int] = set()
    for name, tensor in sorted(state.items()):
        if tensor.data_ptr() in seen:  # tied weights count once
            continue
        seen.add(tensor.data_ptr())
        flat = tensor.detach().reshape(-1)
        step = max(1, flat.numel() // SAMPLED)
        sample = flat[::step][:SAMPLED].to("cpu", torch.bfloat16).view(torch.int16).numpy().tobytes()
        digest.update(f"{name}{tuple(tensor.shape)}".encode() + sample)
    return digest.hexdigest()


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    found: set[int] = set()
    for source in (tokenizer.eos_token_id, model.config.eos_token_id, model.generation_config.eos_token_id):
        if isinstance(source, Iterable):
            found.update(source)
        elif source is not None:
            found.add(source)
    return frozenset(found)


def _small(config: Any) -> bool:
    """Whether 32-bit weights fit a common machine: about a billion parameters or fewer, judged from the config."""
    layers, width = config.num_hidden_layers, config.hidden_size
    return 12 * layers * width**2 + config.vocab_size * width < 1.2e9


# the library's own warnings and bars would mix with replies; what matters is raised as an error
hf_logging.set_verbosity_error()
hf_logging.disable_progress_bar()
