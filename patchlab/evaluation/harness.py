"""A backbone with a stack as a model of lm-evaluation-harness (`pip install lm-eval==0.4.13`).

    from lm_eval import simple_evaluate
    from patchlab.evaluation.harness import PatchedLM

    lab = patchlab.load("qwen2.5-0.5b")
    simple_evaluate(PatchedLM(lab.base, lab.planner.plan(Stack.parse("toxicity"))), tasks=["hellaswag"])

The harness gives plain text and takes care of templates and examples itself, so nothing of the text is cleaned here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from patchlab.engine import BARE, Sampling, Scheduler, StackPlan
from patchlab.engine.likelihood import pad_texts, reply_logits
from patchlab.engine.written_rows import Request
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
    """Answers the harness's three kinds of requests from a backbone with one plan; its weights stay as they are.

    Likelihoods are computed for at most `batch_size` rows at a time, and texts are written by `scheduler`, by default one of
    its own for as many rows. A text that does not fit the context loses its beginning, as the harness's own models do it.
    Raises InputError for a plan that gates made for one prompt, ContextError for one that leaves no room.
    """

    def __init__(self, backbone: Backbone, plan: StackPlan = BARE, *, scheduler: Scheduler | None = None, batch_size: int = 8,
                 seed: int = 0) -> None:
        if plan.skipped:  # a task cuts a text into context and continuation where it likes
            raise InputError(f"a plan from which gates left {', '.join(plan.skipped)} off for one prompt",
                             expected="one that is the same for every text", do="plan the stack without a prompt")
        super().__init__()
        self.backbone, self.plan, self.seed, self.batch_size = backbone, plan, seed, batch_size
        self.scheduler = scheduler or Scheduler(backbone, rows=batch_size * len(plan.rows))
        self.tokenizer = backbone.tokenizer
        self._device = backbone.device  # the name under which the harness looks for it
        self.room = backbone.context - plan.start  # positions that are left for text
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
                logits = reply_logits(self.backbone, texts, self.plan).float()
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
        found = [""] * len(requests)
        job = self.scheduler.open(self._requests(requests))
        try:
            while deltas := job.take():
                for delta in deltas:
                    if delta.stop == "error":
                        raise ModelError(f"{self.backbone.name} failed: {delta.error}", expected="numbers",
                                         do="load the model in another precision, or switch its patches off")
                    found[delta.row] += delta.text
                    if delta.done:
                        self.cache_hook.add_partial("generate_until", requests[delta.row].args, found[delta.row])
        finally:
            job.close()
        return found

    def _requests(self, requests: list[Instance]) -> Iterator[Request]:
        """What the scheduler is asked, request by request; one that comes again is another sample."""
        asked: Counter[str] = Counter()
        for row, request in enumerate(requests):
            text, options = request.args[0], normalize_gen_kwargs(dict(request.args[1]), LONGEST)
            limit = min(options["max_gen_toks"], self.room - 1)
            sampling = Sampling(temperature=float(options.get("temperature") or 0.0), top_p=float(options.get("top_p") or 1.0),
                                seed=self.seed, max_new_tokens=limit, until=tuple(stop for stop in options["until"] if stop))
            ids = (self.tok_encode(text) or [self.prefix_token_id])[-(self.room - limit):]
            yield self.scheduler.request("patched", row, Prompt(text, "continue"), self.plan, sampling=sampling,
                                         sample=asked[text], ids=ids)
            asked[text] += 1

    def _fit(self, context: list[int], said: list[int]) -> tuple[list[int], list[int]]:
        """The pair without what does not fit in front; at least one token stands before what is scored."""
        # the last token is only predicted and takes no position
        both = [*context, *said][-(self.room + 1):]
        kept = min(len(said), len(both) - 1)
        return both[:len(both) - kept], both[len(both) - kept:]

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Places of requests, longest first, a batch at a time."""
        order = sorted(range(len(lengths)), key=lambda k: -lengths[k])
        for at in range(0, len(order), self.batch_size):
            yield order[at:at + self.batch_size]
