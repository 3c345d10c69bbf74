"""How the embedded scorers are made: `python -m patchlab.scoring.fit`. Nothing that scores imports this."""

from patchlab.scoring.fit.build import build

__all__ = ["build"]
