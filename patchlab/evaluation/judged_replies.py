"""The replies of all lanes to a prompt, judged: the score of each claim, and what the reply did with what was asked.

The command line, the page and its API show replies as these records, so that a reply has the same verdict everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from patchlab.evaluation.metrics import Verdicts
from patchlab.records import EMPTY, Prompt, Reply, Score
from patchlab.scoring.prompt_judge import PromptScore
from patchlab.scoring.table import Claim, JudgeSet
from patchlab.scoring.verdict import ReplyVerdict, asked, verdict


@dataclass(frozen=True, slots=True)
class JudgedReply:
    """A reply with its score for each claim, and its verdict where the judges give one."""

    reply: Reply
    scores: Mapping[Claim, Score]
    verdict: ReplyVerdict | None = None

    @property
    def refused(self) -> bool:
        """Whether the reply refuses; a text to continue asks for nothing that could be refused."""
        return self.reply.prompt.kind == "chat" and self.scores["refusal"].flagged

    @property
    def crisis(self) -> bool:
        """Whether the prompt is a message of someone in danger: neither an answer nor a refusal is right, and none is counted."""
        return self.verdict is not None and self.verdict.asked == "crisis"

    @property
    def toxic(self) -> bool:
        """Whether the reply is scored toxic."""
        return self.scores["toxicity"].flagged

    @property
    def empty(self) -> bool:
        """Whether the reply has no answer."""
        return self.scores["toxicity"].label == EMPTY


def questions(prompts: Sequence[Prompt]) -> dict[str, PromptScore]:
    """What each prompt asks for, by its key; a text to continue asks for nothing."""
    return {prompt.key: asked(prompt.text) for prompt in {each.key: each for each in prompts}.values() if prompt.kind == "chat"}


def judged(replies: Sequence[Reply], verdicts: Verdicts, found: Mapping[str, PromptScore]) -> list[JudgedReply]:
    """The replies with their scores by the first scorer of each claim, and, with judges on the encoder, with verdicts.

    `found` is what their prompts ask for. Without the encoder no prompt is judged; only a crisis is told, by its wording.
    """
    columns = {claim: verdicts.of(scorer, replies) for claim, scorer in verdicts.judges.first.items()}
    made = []
    for k, reply in enumerate(replies):
        scores = {claim: column[k] for claim, column in columns.items()}
        question = found.get(reply.prompt.key)
        if question and verdicts.judges.name != "encoder" and question.label != "crisis":
            question = None
        made.append(JudgedReply(reply, scores, verdict(question, scores["refusal"], scores["toxicity"]) if question else None))
    return made


def row_json(row: Sequence[JudgedReply], judges: JudgeSet) -> dict[str, Any]:
    """The lanes' replies to one prompt as a JSON object; a conversation also has its messages, a judged request its verdicts."""
    first = row[0]
    prompt = first.reply.prompt
    messages = [{"role": message.role, "content": message.content} for message in prompt.messages] if prompt.earlier else None
    return {"prompt": prompt.text, **({"messages": messages} if messages else {}), "sample": first.reply.sample,
            "judges": dict(judges.first), **({"asked": first.verdict.asked} if first.verdict else {}), "lanes": [
        {"lane": each.reply.lane, "text": each.reply.text, "tokens": each.reply.tokens, "stop": each.reply.stop,
         "scores": {name: round(score.value, 6) for name, score in each.scores.items()},
         **({"verdict": each.verdict.words, "tone": each.verdict.tone} if each.verdict else {})} for each in row]}
