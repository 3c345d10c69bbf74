"""The words of links, of kept runs and of the line that says that the server is away."""

TITLE, LABEL = "Share", "Link to this page with all its settings"
NOTE = ("The link holds the prompt and every setting. It holds no reply, no earlier turn of a conversation and no further "
        "column. Whoever opens it presses Run.")
LEFT_OUT = "This link asks for what this page does not have, which was left out: {what}."
RECALL, RECALL_HEAD, RECALL_LONG = "Show again", "Replies", "Show this run again: {prompt}"
SAVE_JSON, SAVE_CSV, SAVE_PNG = "Save as JSON", "Save as CSV", "PNG"
SAVE_PNG_LONG = "Save the chart {title} as a PNG picture"
KEPT_NOTE = "Kept in this browser only, the last {most} runs at most, until you clear the list. Files hold the run shown above."
NOTHING_TO_SAVE = "Nothing has been run yet, so there is nothing to save."
RECALLED = "This is an earlier run, with its settings."
PREVIEW_TITLE = "PatchLab: safety patches for language models"
PREVIEW_ALT = "One prompt, three replies: the unpatched model helps with harm, the patched one and the reference refuse"
