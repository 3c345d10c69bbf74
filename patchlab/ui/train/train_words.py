"""The words of the Train tab."""

from __future__ import annotations

TITLE = "Train a patch"
NOTE = ("The model and a safer reference reply to training prompts; a patch learns to move the model towards the safer replies "
        "and to leave all other replies as they are. No weight of the model changes. Its effect is then measured on prompts that "
        "training never saw, and the patch is installed.")
NOT_ALLOWED = ("Visitors of this page cannot train, since it takes the server's processor for minutes to hours. Whoever runs "
               "the server can start the page with `--allow-training`, or train in a shell:")
COMMANDS = ("patchlab train {domain}{models} --out runs/{domain}", "patchlab patches install runs/{domain}/{domain}-1.0.0")
DOMAIN_LABEL = "What the patch is to improve"
DOMAINS = [("Refuse harmful requests", "refusal"), ("Write without insults", "toxicity"), ("Even pronouns", "bias")]
NAME = ("Name of the patch", "Lower-case letters, digits and hyphens. Of a name that is taken, the next version is made.")
STEPS = ("Steps of the first stage", "The stages after it get the same share of the recipe's steps.")
LENGTH = ("Length of the patch", "Embeddings that stand before a prompt.")
SEED = ("Seed", "A whole number; the same seed and settings give the same patch again.")
JUDGED = ("Prompts for the evidence", "Per suite, which training never saw; 0 measures nothing.")
START, STOP, RESUME = "Start training", "Stop", "Continue"
READY = "Nothing is being trained for this browser."
RUNNING = "Stage “{stage}”: {done:,} of {total:,}{left}. {message}"
STARTING = "Reading the prompts…"
STOPPED = "Stopped. What was saved is kept: “Continue” goes on from there."
FAILED = "Training ended with an error. What was saved is kept."
DONE = "Done: {name} {version} is installed and ticked on the Compare tab."
BUSY = "a training that runs already"
UNEXPECTED = "Something went wrong. The page still works; try again."
CHART_TITLE = "Loss"
CHART_NOTE = "Of the stage that runs, and how far other replies move (KL); lower is better. Upright lines divide stages."
LOSS, HOLD = "Loss", "Drift of other replies (KL)"
NO_STEP = "No step yet."
PAIRS = "Pairs of replies it learns from: {kept:,} kept. {dropped}"
DROPPED = "Left out: {reasons}."
SAMPLES = "Examples of these pairs; the replies that it unlearns can be rude or harmful"
PREFERRED, REJECTED = "Preferred", "Unlearned"
BAR = "Progress of this stage"
