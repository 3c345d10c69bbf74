"""A backbone with a plan as a model of lm-evaluation-harness (`pip install lm-eval==0.4.13`).

    from lm_eval import simple_evaluate
    from patchlab.evaluation.harness import PatchedLM

    lab = patchlab.load("qwen2.5-0.5b")
    simple_evaluate(PatchedLM(lab.base, lab.planner.plan(Stack.parse("toxicity"))), tasks=["hellaswag"])

The harness applies chat templates and few-shot examples itself and passes plain text, which is used unchanged.
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
from patchlab.models import Backbone, Encoded
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

LONGEST = 256  # new tokens for a task without a limit


class PatchedLM(TemplateLM):
    """Answers the harness's three types of requests with a backbone under one plan.

    Likelihoods are computed and texts generated in batches of at most `batch_size` rows. Texts that exceed the context are
    truncated on the left, as in the harness's own models.
    Raises InputError for a plan that gates made for one prompt, ContextError for a plan that leaves fewer than 2 positions.
    """

    def __init__(self, backbone: Backbone, plan: StackPlan = BARE, *, batch_size: int = 8, seed: int = 0) -> None:
        if plan.skipped:  # a task divides a text into context and continuation anywhere, so no prompt exists to gate on
            raise InputError(f"a plan from which gates left {', '.join(plan.skipped)} off for one prompt",
                             expected="one that is the same for every text", do="plan the stack without a prompt")
        super().__init__()
        self.backbone, self.plan, self.seed, self.batch_size = backbone, plan, seed, batch_size
        self.scheduler = Scheduler(backbone, rows=batch_size * len(plan.rows))
        self.tokenizer = backbone.tokenizer
        self._device = backbone.device  # read by the harness
        self.room = backbone.context - plan.start  # positions for text
        if self.room < 2:
            raise ContextError(f"a stack that leaves {self.room} positions", expected="at least 2 for text",
                               do="stack fewer or shorter patches")

    @property
    def eot_token_id(self) -> int:
        """The end-of-text token."""
        return self.backbone.eos or 0

    @property
    def prefix_token_id(self) -> int:
        """The token before a text without context."""
        first = self.tokenizer.bos_token_id
        return self.eot_token_id if first is None else int(first)

    @property
    def tokenizer_name(self) -> str:
        """The key under which the harness caches rendered requests."""
        return f"{self.backbone.name}-{self.backbone.identity.tokenizer_digest[:12]}".replace("/", "__")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation in the model's chat template."""
        return str(self.tokenizer.apply_chat_template(chat_history, tokenize=False,
                                                      add_generation_prompt=add_generation_prompt))

    def tok_encode(self, string: str, add_special_tokens: bool | None = None) -> list[int]:
        """Token ids, with BOS unless the text begins with it, and without an end token."""
        if add_special_tokens is None:
            first = self.tokenizer.bos_token
            add_special_tokens = not (first and string.startswith(first))
        ids: list[int] = self.tokenizer(string, add_special_tokens=add_special_tokens)["input_ids"]
        ended = add_special_tokens and len(ids) > 1 and ids[-1] in self.backbone.stops
        return ids[:-1] if ended else ids

    def _loglikelihood_tokens(self, requests: Sequence[tuple[tuple[str, str] | None, list[int], list[int]]],
                              disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        results: dict[int, tuple[float, bool]] = {}
        order = sorted(range(len(requests)), key=lambda k: -len(requests[k][1]) - len(requests[k][2]))  # longest first
        for start in range(0, len(order), self.batch_size):
            batch = order[start:start + self.batch_size]
            texts = pad_texts(self.backbone, [self._truncated(*requests[k][1:]) for k in batch])
            with torch.no_grad():
                logits = reply_logits(self.backbone, texts, self.plan).float()
            logprobs = -functional.cross_entropy(logits, texts.targets, reduction="none")
            greedy = logits.argmax(-1) == texts.targets
            for row, k in enumerate(batch):
                tokens = texts.rows == row
                results[k] = float(logprobs[tokens].double().sum()), bool(greedy[tokens].all())
                if requests[k][0] is not None:
                    self.cache_hook.add_partial("loglikelihood", requests[k][0], results[k])
        return [results[k] for k in range(len(requests))]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of whole texts, each token predicted once, in windows as long as the context."""
        results = []
        for request in requests:
            (text,) = request.args
            windows = get_rolling_token_windows(self.tok_encode(text, add_special_tokens=False),
                                                self.prefix_token_id, max_seq_len=self.room, context_len=1)
            pairs = [(None, *make_disjoint_window(window)) for window in windows]
            results.append(sum(value for value, _ in self._loglikelihood_tokens(pairs)))
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, results[-1])
        return results

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Text until a stop string, an end token or the token limit; greedy unless a task asks for sampling."""
        texts = [""] * len(requests)
        job = self.scheduler.open(self._requests(requests))
        try:
            while deltas := job.take():
                for delta in deltas:
                    if delta.stop == "error":
                        raise ModelError(f"{self.backbone.name} failed: {delta.error}", expected="finite logits",
                                         do="load the model in another precision, or switch its patches off")
                    texts[delta.row] += delta.text
                    if delta.done:
                        self.cache_hook.add_partial("generate_until", requests[delta.row].args, texts[delta.row])
        finally:
            job.close()
        return texts

    def _requests(self, requests: list[Instance]) -> Iterator[Request]:
        """The scheduler's requests; a repeated text is another sample of the same prompt."""
        repeats: Counter[str] = Counter()
        for row, request in enumerate(requests):
            text, options = request.args[0], normalize_gen_kwargs(dict(request.args[1]), LONGEST)
            limit = min(options["max_gen_toks"], self.room - 1)
            sampling = Sampling(temperature=float(options.get("temperature") or 0.0), top_p=float(options.get("top_p") or 1.0),
                                seed=self.seed, max_new_tokens=limit, until=tuple(stop for stop in options["until"] if stop))
            ids = (self.tok_encode(text) or [self.prefix_token_id])[-(self.room - limit):]
            yield self.scheduler.request("patched", row, Prompt(text, "continue"), self.plan, sampling=sampling,
                                         sample=repeats[text], encoded=Encoded(ids))
            repeats[text] += 1

    def _truncated(self, context: list[int], continuation: list[int]) -> tuple[list[int], list[int]]:
        """The pair truncated on the left to the context; at least one token remains before the scored ones."""
        # the last token is only predicted and takes no position
        both = [*context, *continuation][-(self.room + 1):]
        scored = min(len(continuation), len(both) - 1)
        return both[:len(both) - scored], both[len(both) - scored:]
