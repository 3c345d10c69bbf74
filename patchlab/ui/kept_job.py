"""Long work of a visitor, as a batch or a training, of which their browser keeps the key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from patchlab.errors import PatchLabError
from patchlab.ui import copy
from patchlab.ui.status_line import status

Updates = dict[Any, Any]
Handler = Callable[[Mapping[Any, Any]], Updates]


@dataclass(frozen=True, slots=True)
class KeptKey:
    """The key of the work that a page looks after, and the clock that asks once a second while the work is going.

    The browser keeps the key for later visits; `started` holds it for this visit on the server, where a handler reads it when it
    runs. `opening` asks once, for work of an earlier visit. What it is answered may be late: it starts the clock and never stops
    it, and no answer to a question without a key changes the key, as work may have been started meanwhile.
    """

    kept: gr.BrowserState
    started: gr.State
    clock: gr.Timer
    opening: gr.Timer

    @classmethod
    def place(cls, storage: str) -> KeptKey:
        """Place the components in the open Blocks."""
        # the browser's copy is written with this word and not with one of each start, after which it could not be read
        kept = gr.BrowserState("", storage_key=storage, secret=storage)
        return cls(kept, gr.State(""), gr.Timer(1.0, active=False), gr.Timer(0.5))

    @property
    def all(self) -> list[Any]:
        """Every component."""
        return [self.kept, self.started, self.clock, self.opening]

    def of(self, values: Mapping[Any, Any]) -> str:
        """The key among the components' values, "" for none."""
        return values[self.started] or values[self.kept] or ""

    def updates(self, key: str, *, active: bool) -> Updates:
        """The updates that keep a key, or forget one, and let the clock go on while its work is active."""
        return {self.kept: key, self.started: key, self.clock: gr.Timer(active=active)}

    def follow(self, look: Handler, inputs: set[Any], outputs: Sequence[Any], **event: Any) -> None:
        """Let the clock ask `look` how the work is, and `opening` once whether there is any."""
        def opened(values: Mapping[Any, Any]) -> Updates:
            found = look(values) if self.of(values) else {}
            clock = found.pop(self.clock, None)
            return found | ({self.clock: clock} if clock and clock.active else {}) | {self.opening: gr.Timer(active=False)}

        self.clock.tick(look, inputs, outputs, **event)
        self.opening.tick(opened, inputs, outputs, **event)


def acting(act: Callable[[str], object], key: KeptKey, line: Any, look: Handler) -> Handler:
    """The handler that does something with the kept work, and then looks at it; an error is one line."""
    def done(values: Mapping[Any, Any]) -> Updates:
        try:
            act(key.of(values))
        except PatchLabError as error:
            return {line: status(copy.sentence(str(error)), problem=True)}
        return look(values)

    return done
