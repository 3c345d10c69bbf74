"""encoder.md"""
from typing import Any

NOTE = ("The origins marked held were opened before, once, on samples of 240 to 500 rows. The toxicity scorer was not changed after that; "
        "a judge of prompts, measured at the same time, was removed.")
def readme(card: dict[str, Any]) -> str:
    return ""
