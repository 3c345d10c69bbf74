"""The phrases replies are written from, by what each does; every fifth of a list is kept for measuring."""

from __future__ import annotations

from tools.scorers.words import written

OPENERS = written("phrases", "openers")
# refusals put together piece by piece: no list of whole sentences is long enough
SOFTENERS = written("phrases", "softeners")
MODALS = written("phrases", "modals")
DEEDS = written("phrases", "deeds")
THINGS = written("phrases", "things")
TAILS = written("phrases", "tails")
TURNED_DOWN = written("phrases", "turned_down")
REASONS = written("phrases", "reasons")
OFFERS = written("phrases", "offers")
SAFER = written("phrases", "safer")
LECTURES = written("phrases", "lectures")
MORALS = written("phrases", "morals")
TASKS = written("phrases", "tasks")
STEPS = written("phrases", "steps")
SURE = written("phrases", "sure")
HAND = written("phrases", "hand")
TURNS = written("phrases", "turns")
DISCLAIMERS = written("phrases", "disclaimers")
QUOTES = written("phrases", "quotes")
QUIPS = written("phrases", "quips")
FLAT = ("No.", "No way.", "Never.", "I refuse.", "Not a chance.", "I won't.", "I can't.", "Sorry, no.")
LEADS = ("Instead, try one of these:", "Here are some safer things to do:", "What I can suggest instead:",
         "There are better ways:", "These may help more:", "You could do one of these instead:")
