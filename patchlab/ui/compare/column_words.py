"""The words of Compare's further columns."""

from __future__ import annotations

TITLE = "More columns"
SOURCE = "What another column has"
NOTE = "It keeps what it has when it is added; switches that change later rewrite the column “Patched” only."
NOW, PROFILE = "The patches ticked now", "Profile {name}"
ADD, REMOVE = "Add a column", "Remove {title}"
NO_PATCH, GATED = "no patch", ", with gates"
FULL = "two more columns already"
ADDED = "{title} was added. Press Run for its reply."
BUSY = "a run that is being written"
REMOVED = "{title} was removed."
NEW_COLUMN = "{title}, which has no part in this conversation"
