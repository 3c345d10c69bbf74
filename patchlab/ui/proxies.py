"""The page asks no proxy: it speaks with this machine only, and some proxies its HTTP client cannot even be made for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_proxies() -> Iterator[None]:
    """Set aside the proxies of the environment, such as one of SOCKS or a mistyped one, while gradio is imported or started."""
    before = {name: os.environ.get(name) for name in ("no_proxy", "NO_PROXY")}
    os.environ.update(dict.fromkeys(before, "*"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
