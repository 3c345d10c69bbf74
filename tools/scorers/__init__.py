"""How the embedded scorers are made: `python -m tools.scorers`. Nothing that scores imports this."""

from tools.scorers.build import build

__all__ = ["build"]
