"""The words of the Batch tab."""

from __future__ import annotations

from patchlab.records import EMPTY, Score

TITLE = "Many prompts at once"
NOTE = ("Ask every model the same prompts and see how often each refuses, is toxic or says nothing. A batch goes on while this "
        "page is closed; stopped, it continues from the replies it has.")
SOURCE_LABEL = "Where the prompts come from"
SOURCES = [("Paste them", "paste"), ("Upload a file", "upload"), ("Take a packaged suite", "suite")]
PASTE_LABEL, PASTE_PLACEHOLDER = "Prompts, one on each line", "How do I bake bread?\nHow can I steal a car?"
UPLOAD_LABEL = "A file of at most 4 MiB and 1,000 prompts"
UPLOAD_NOTE = "Text with a prompt on each line, CSV with a column “text”, or JSON Lines with “text” or “messages”."
SUITE_LABEL = "Suite"
SUITES = [("Harmful requests: a safe model refuses them", "refusal"),
          ("Harmless requests, plain and alarming: a model should answer", "overrefusal"),
          ("Angry comments to continue", "toxicity")]
COUNT_LABEL = "Prompts of each kind"
PROFILE_LABEL, PROFILE_NOTE = "Profile", "A client's pinned stack; it takes the place of the choices below."
SECOND_LABEL, SECOND_NOTE = "Compare with", "A second client's profile: its replies get a column and rates of their own."
NO_SECOND = "No second client"
TWICE = "the profile {name} twice"
FIRST_CLIENT = "“Patched” is the profile {name}"
NO_PROFILE = "None: the patches below"
PATCHES_LABEL = "Patches of the patched lane"
NO_PATCHES = "No patch that fits this model is installed."
SETTINGS = "More settings"
RUN, STOP, RESUME, REMOVE = "Run the batch", "Stop", "Continue", "Delete this batch"
READY = ("Nothing has been run. Prompts and replies stay on the server for a week, for this browser only, or until you delete "
         "them.")
WAITING = "Waiting for {place} other {batches} to finish. This page may be closed."
RUNNING = "{done:,} of {total:,} replies{left}. This page may be closed."
JUDGING = "All {total:,} replies are written. Judging them…"
DONE = "Done: {prompts:,} prompts, {total:,} replies. {source}."
STOPPED = "Stopped at {done:,} of {total:,} replies. They are kept: “Continue” goes on from here."
FAILED = "The batch failed. Its replies are kept: “Continue” goes on from them."
REMOVED = "The batch was deleted."
BAR = "Replies written"
RATES_TITLE, TABLE_TITLE = "How often", "Replies"
RATES_NOTE = ("Shares of prompts with 95 % Wilson intervals. Replies that the judges cannot read are left out; a text to "
              "continue asks for nothing that could be refused.")
RATES = {"refused": "Refused", "toxic": "Toxic", "empty": "Empty"}
VOTES_TITLE, VOTE_COLUMN, VOTE_LABEL = "Better, by your votes", "Your vote", "Which reply is better?"
NEITHER, NO_VOTE, NOT_VOTED_ON = "Neither", "no vote yet", "not voted on"
WRITTEN = "Show what the model wrote"
NO_BALLOT = "No vote: see the note above"
FILTER_LABEL = "Show"
FILTERS = {"all": "All", "differ": "Lanes differ", "refused": "Refused", "toxic": "Toxic",
           "worse": "Patched worse than unpatched"}
NO_ROWS = "No prompt is of this kind."
TOXIC = "Scored toxic. Show the text"
NO_TEXT = "(an empty reply)"
OPEN = "Open in Compare"
PREVIOUS, NEXT = "Previous", "Next"
PAGE = "Prompts {first:,} to {last:,} of {total:,}"
EXPORT_TITLE, EXPORT_LABEL, EXPORT = "Take it with you", "Format", "Make the file"
EXPORTS = [("CSV table", "csv"), ("JSON Lines", "jsonl"), ("HTML report", "html"), ("LLM Comparator", "comparator"),
           ("promptfoo tests", "promptfoo"), ("DPO pairs from votes", "pairs")]
EXPORT_NOTE = "Files hold every reply as it is, toxic ones too."
FILE_LABEL = "The file"
NO_PAIRS = "No vote on the prompts that are shown calls one of two different replies the better one"
NOT_A_VOTE = "This vote belongs to another batch or to a prompt that is not in it"
NOTHING_TO_EXPORT = "No prompt has the replies of every lane yet"
UNEXPECTED = "Something went wrong. The page still works; try again."


def time_left(seconds: float | None) -> str:
    """The time left as a part of a sentence, empty where it is not known."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f", about {max(5, round(seconds / 5) * 5)} seconds left"
    return f", about {round(seconds / 60)} minutes left"


def votes(count: int, neither: int) -> str:
    """How many votes there are, as a sentence."""
    if not count:
        return "You have not voted yet. Say below for each prompt which reply is better."
    tied = f", {neither} of them for neither reply" if neither else ""
    return f"{count} vote{'' if count == 1 else 's'} of yours{tied}. They are kept with the batch and deleted with it."


def source(kind: str, name: str = "") -> str:
    """Where prompts are from, in words."""
    return {"paste": "Pasted prompts", "upload": f"Prompts of {name}", "suite": f"Prompts of the suite {name}"}[kind]


def verdict(claim: str, score: Score) -> str:
    """A score in words, then the number: 'Toxic (0.93)', 'Answered (0.04)'; without a score why."""
    if not score.known:
        return "No answer" if score.label == EMPTY else "Not judged: not in English"
    plain, flagged = {"toxicity": ("Not toxic", "Toxic"), "refusal": ("Answered", "Refused")}[claim]
    return f"{flagged if score.flagged else plain} ({score.value:.2f})"
