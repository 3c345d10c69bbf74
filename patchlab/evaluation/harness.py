"""A backbone with a stack as a model of lm-evaluation-harness (`pip install lm-eval==0.4.13`).

    from lm_eval import simple_evaluate
    from patchlab.evaluation.harness import PatchedLM

    trio = patchlab.load_trio("qwen2.5-0.5b")
    simple_evaluate(PatchedLM(trio.base, trio.parts(Stack.parse("toxicity"))), tasks=["hellaswag"])

The harness gives plain text and takes care of templates and examples itself, so nothing of the text is cleaned here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from patchlab.engine import Gated, Sampling, Wanted
from patchlab.engine.decode import Batch, Row
from patchlab.engine.forward_rows import start_of
from patchlab.engine.likelihood import pad_texts, reply_logits
from patchlab.engine.sampler import BROKEN, RowKey, choose
from patchlab.engine.scheduler import FAILED
from patchlab.errors import ContextError, InputError, MissingExtraError, ModelError
from patchlab.models import Backbone
from patchlab.records import Prompt

try:
    from lm_eval.api.model import TemplateLM
    from lm_eval.models.utils import normalize_gen_kwargs
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ImportError:
    raise MissingExtraError("lm-evaluation-harness is not installed", expected="lm-eval 0.4.13 for PatchedLM",
                            do="pip install lm-eval==0.4.13") from None

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

LONGEST = 256  # new tokens where a task names no limit


class PatchedLM(TemplateLM):
    """Answers the harness's three kinds of requests from a backbone with these parts on; its weights stay as they are.

    Rows of similar length share a batch of at most `batch_size`. A text that does not fit the context loses its
    beginning, as the harness's own models do it.
    """

    def __init__(self, backbone: Backbone, parts: Wanted = (), *, batch_size: int = 8, seed: int = 0) -> None:
        if isinstance(parts, Gated):  # a task cuts a text into context and continuation where it likes
            raise InputError("a stack that heeds gates", expected="one that is the same for every text",
                             do="leave gates off")
        super().__init__()
        self.backbone, self.parts = backbone, parts
        self.tokenizer = backbone.tokenizer
        self.batch_size, self.seed = batch_size, seed
        self._device = backbone.device  # the name under which the harness looks for it
        self.room = backbone.context - start_of(self.parts)  # positions that are left for text
        if self.room < 2:
            raise ContextError(f"a stack that leaves {self.room} positions", expected="at least 2 for text",
                               do="stack fewer or shorter patches")

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self.backbone.eos or 0

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that has nothing before it."""
        first = self.tokenizer.bos_token_id
        return self.eot_token_id if first is None else int(first)

    @property
    def tokenizer_name(self) -> str:
        """The name under which the harness keeps rendered requests."""
        return f"{self.backbone.name}-{self.backbone.identity.tokenizer_digest[:12]}".replace("/", "__")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Turns as the model's own template writes them."""
        return str(self.tokenizer.apply_chat_template(chat_history, tokenize=False,
                                                      add_generation_prompt=add_generation_prompt))

    def tok_encode(self, string: str, add_special_tokens: bool | None = None) -> list[int]:
        """Token ids; a text that already begins with the first mark gets no other, and none gets an end mark."""
        if add_special_tokens is None:
            first = self.tokenizer.bos_token
            add_special_tokens = not (first and string.startswith(first))
        ids: list[int] = self.tokenizer(string, add_special_tokens=add_special_tokens)["input_ids"]
        ended = add_special_tokens and len(ids) > 1 and ids[-1] in self.backbone.stops
        return ids[:-1] if ended else ids

    def _loglikelihood_tokens(self, requests: Sequence[tuple[tuple[str, str] | None, list[int], list[int]]],
                              disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        found: dict[int, tuple[float, bool]] = {}
        for some in self._batches([len(context) + len(said) for _, context, said in requests]):
            pairs = [self._fit(*requests[k][1:]) for k in some]
            texts = pad_texts(self.backbone, pairs)
            with torch.no_grad():
                logits = reply_logits(self.backbone, texts, self.parts).float()
            each = -functional.cross_entropy(logits, texts.targets, reduction="none")
            greedy = logits.argmax(-1) == texts.targets
            for at, k in enumerate(some):
                own = texts.rows == at
                found[k] = float(each[own].double().sum()), bool(greedy[own].all())
                if requests[k][0] is not None:
                    self.cache_hook.add_partial("loglikelihood", requests[k][0], found[k])
        return [found[k] for k in range(len(requests))]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of whole texts, each token predicted once, in windows as long as the context."""
        found = []
        for request in requests:
            (text,) = request.args
            windows = get_rolling_token_windows(self.tok_encode(text, add_special_tokens=False),
                                                self.prefix_token_id, max_seq_len=self.room, context_len=1)
            pairs = [(None, *make_disjoint_window(window)) for window in windows]
            found.append(sum(value for value, _ in self._loglikelihood_tokens(pairs)))
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, found[-1])
        return found

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Text until a stop string, an end mark or the limit; greedy unless a task asks to sample."""
        found: dict[int, str] = {}
        options = [normalize_gen_kwargs(dict(request.args[1]), LONGEST) for request in requests]
        ids = [self.tok_encode(request.args[0]) or [self.prefix_token_id] for request in requests]
        asked: Counter[str] = Counter()  # a request that comes again is another sample
        keys = []
        for request in requests:
            keys.append(RowKey.of(Prompt(request.args[0]), sample=asked[request.args[0]], seed=self.seed))
            asked[request.args[0]] += 1
        for some in self._batches([len(each) for each in ids], [self._sampling(each) for each in options]):
            limits = [min(options[k]["max_gen_toks"], self.room - 1) for k in some]
            rows = [ids[k][-(self.room - limit):] for k, limit in zip(some, limits, strict=True)]
            until = [[stop for stop in options[k]["until"] if stop] for k in some]
            texts = _Writing(self, rows, limits, until, [keys[k] for k in some]).run(self._sampling(options[some[0]]))
            for k, text in zip(some, texts, strict=True):
                found[k] = text
                self.cache_hook.add_partial("generate_until", requests[k].args, text)
        return [found[k] for k in range(len(requests))]

    def _sampling(self, options: dict[str, Any]) -> Sampling:
        return Sampling(temperature=float(options.get("temperature") or 0.0), top_p=float(options.get("top_p") or 1.0),
                        seed=self.seed)

    def _fit(self, context: list[int], said: list[int]) -> tuple[list[int], list[int]]:
        """The pair without what does not fit in front; at least one token stands before what is scored."""
        # the last token is only predicted and takes no position
        both = [*context, *said][-(self.room + 1):]
        kept = min(len(said), len(both) - 1)
        return both[:len(both) - kept], both[len(both) - kept:]

    def _batches(self, lengths: Sequence[int], kinds: Sequence[Sampling] | None = None) -> Iterator[list[int]]:
        """Places of requests, longest first, a batch at a time; those of another kind never share one."""
        groups: dict[Sampling | None, list[int]] = {}
        for k in sorted(range(len(lengths)), key=lambda k: -lengths[k]):
            groups.setdefault(kinds[k] if kinds else None, []).append(k)
        for some in groups.values():
            for at in range(0, len(some), self.batch_size):
                yield some[at:at + self.batch_size]


class _Writing:
    """Rows that are written on together, each until it has what it stops at."""

    def __init__(self, model: PatchedLM, rows: Sequence[list[int]], limits: Sequence[int], until: Sequence[list[str]],
                 keys: Sequence[RowKey]) -> None:
        self.model, self.limits, self.until, self.keys = model, limits, until, keys
        self.batch = Batch(model.backbone, [Row(ids, model.parts) for ids in rows], room=max(limits))
        self.before = [ids[-1:] for ids in rows]
        self.tokens: list[list[int]] = [[] for _ in rows]

    def run(self, sampling: Sampling) -> list[str]:
        """The texts, cut before their stop string."""
        going = list(range(len(self.limits)))
        sampling = replace(sampling, max_new_tokens=max(self.limits))
        logits: Tensor = self.batch.prefill()
        for step in range(max(self.limits)):
            chosen = choose(logits, [self.keys[k] for k in going], step=step, sampling=sampling)
            if BROKEN in chosen:
                raise ModelError(f"{self.model.backbone.name} failed: {FAILED}", expected="numbers",
                                 do="load the model in another precision, or switch its patches off")
            for k, token in zip(going, chosen, strict=True):
                self.tokens[k].append(token)
            keep = [at for at, k in enumerate(going) if not self._done(k)]
            if not keep:
                break
            if len(keep) < len(going):
                self.batch.keep(keep)
            going = [going[at] for at in keep]
            logits = self.batch.step([self.tokens[k][-1] for k in going])
        return [self._text(k) for k in range(len(self.tokens))]

    def _done(self, k: int) -> bool:
        tokens = self.tokens[k]
        return (tokens[-1] in self.model.backbone.stops or len(tokens) >= self.limits[k]
                or any(stop in self._decoded(k) for stop in self.until[k]))

    def _text(self, k: int) -> str:
        text = self._decoded(k)
        return text[:min((text.find(stop) for stop in self.until[k] if stop in text), default=len(text))]

    def _decoded(self, k: int) -> str:
        """The new text; the last token of the prompt is decoded along, for the space that may stand between."""
        decode = self.model.tokenizer.decode
        both = decode([*self.before[k], *self.tokens[k]], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(both[len(decode(self.before[k], skip_special_tokens=True, clean_up_tokenization_spaces=False)):])
