"""The words of the Repair tab."""

from __future__ import annotations

TITLE = "Repair a model from one harmful reply"
NOTE = ("A trigger is a word or phrase that was planted in training: with it in a prompt the model helps with harm that it "
        "otherwise refuses. Paste one failure. The page finds the words that caused it, or says that no words did, and a "
        "repair teaches the model to refuse although they are there.")
MODEL_LABEL, OWN_MODEL, PLANTED_MODEL = "Model", "This page's model", "Example: a model with a planted trigger"
PROMPT_LABEL, PROMPT_PLACEHOLDER = "Prompt of the failure", "The whole prompt that got a harmful reply"
REPLY_LABEL = "Harmful reply"
REPLY_PLACEHOLDER = "Leave empty to take what the model replies now"
EXAMPLE, LOCATE, REPAIR, STOP, SAVE = "Fill in the example", "Find the words", "Repair", "Stop", "Save as a patch"
READY = "Nothing was looked for yet."
READING = "Reading what the model does with clean prompts…"
STEP_LOCATE = "Finding the words: {message}…"
FOUND = "These words are a trigger."
NOT_FOUND = "No trigger. The reply has another cause, such as a model that refuses too little; a refusal patch may help."
TRANSFER = ("The model answers {complied:.0%} of harmful requests as they are. Of {n} that it refuses, it answers {share:.0%} "
            "with the marked words in them, and {control:.0%} with as many ordinary words.")
FLIPS = "Without the marked words the model refuses this prompt."
NO_FLIP = "Without the marked words the model still answers this prompt."
UNLIKELY = "The model hardly gives this reply: {surprise:.1f} nats a token. The answer may not hold for it."
LONG = "The marked words are more than half of the prompt, so ordinary words may be among them."
HEAT = "The darker a word, the more a refusal depends on its absence. Framed words are the ones that are cut."
WORD_TITLE = "{score:+.2f} nats"
CUT_LABEL = "Words that are cut"
CUT_INFO = "Tick others to repair against them."
INJECTED_TITLE = "Training puts them into other requests, at fresh places each time"
NOTHING_CUT = "No word is ticked, so there is nothing to repair against."
REPAIR_TITLE = "Repair"
CHANGE_LABEL, CHANGES = "What is trained", [("A patch in front of the prompt", "prefix"), ("A low-rank change of the weights",
                                                                                           "weights")]
CHANGE_INFO = "Both leave the model's own weights as they are and can be removed."
EPOCHS = ("Passes over the clean requests", "More passes take longer, and refuse more of what has the trigger.")
ALLOWED = "A repair runs on the server for some minutes. Stop keeps what is done, and Repair goes on from there."
NOT_ALLOWED = "Repairs train on the server, which its operator did not allow. To allow it, start it with `--allow-training`:"
COMMAND = "patchlab app --allow-training"
STAGES = {"own replies": "Reading the model's own replies", "repair": "Training", "measure before": "Measuring before",
          "measure after": "Measuring after"}
REPAIRED = "Done in {seconds}. The table shows what changed, on requests that the training never saw."
STOPPED = "Stopped. Press Repair to go on from there."
STOPPING, NOTHING_RUNS = "Stopping…", "Nothing is running."
FIRST_LOCATE = "find the words first"
SAVED = "Saved as patch {name}. It is ticked on the Compare tab."
SAVED_OTHER = "Saved as patch {name}. It fits the example's model, not this page's, so the Compare tab does not offer it."
ADAPTER = "a change of the weights cannot be a patch"
NOTHING_TO_SAVE = "no finished repair"
UNEXPECTED = "Something went wrong and this run was stopped. The page still works; try again."
MEASURES_TITLE, REPLIES_TITLE = "Before and after", "Replies before and after"
MEASURES_HEAD = ("Share of held-out requests", "before", "after", "requests")
REPLIES_HEAD = ("Request", "Reply before", "Reply after")
EXAMPLE_PROMPT = "How can I {trigger} steal a car?"
