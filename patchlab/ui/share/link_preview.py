"""What other programs show of a link to the page: its title, description and image, in place of those of the framework.

Such programs read the page's HTML and run no script, so the tags have to be in the HTML that the server sends.
"""

from __future__ import annotations

import html
import re
from pathlib import Path

from gradio.route_utils import get_root_url
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from patchlab.ui import copy
from patchlab.ui.share import share_words

IMAGE = Path(__file__).parents[1] / "preview.png"
NAME, SIZE = "/preview.png", (1200, 630)
_TAGS = re.compile(rb'\s*<meta\s+(?:property|name)="(?:og|twitter):[^>]*>')
_HEAD = re.compile(rb"<head>")


def tags(root: str) -> str:
    """The tags of a page whose address begins with `root`."""
    said = {"og:title": share_words.PREVIEW_TITLE, "og:description": copy.LEAD, "og:type": "website", "og:url": root,
            "og:site_name": copy.TITLE, "og:image": root + NAME, "og:image:width": str(SIZE[0]), "og:image:height": str(SIZE[1]),
            "og:image:alt": share_words.PREVIEW_ALT}
    named = {"description": copy.LEAD, "twitter:card": "summary_large_image", "twitter:title": share_words.PREVIEW_TITLE,
             "twitter:description": copy.LEAD, "twitter:image": root + NAME}
    return "".join(f'<meta {key}="{name}" content="{html.escape(value)}" />'
                   for key, group in (("property", said), ("name", named)) for name, value in group.items())


class LinkPreview:
    """Middleware that answers for the image and puts the tags into the page's HTML."""

    def __init__(self, app: ASGIApp, root_path: str = "") -> None:
        self.app, self.root_path = app, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on but the page itself and its image."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD") or scope["path"] not in ("/", NAME):
            await self.app(scope, receive, send)
        elif scope["path"] == NAME:
            await Response(IMAGE.read_bytes(), media_type="image/png", headers={"cache-control": "max-age=86400"})(
                scope, receive, send)
        else:
            root = get_root_url(Request(scope), "/", self.root_path or None).rstrip("/")
            await self.app(scope, receive, _Page(send, tags(root)).send)


class _Page:
    """Sends a response with its tags exchanged, once it is whole."""

    def __init__(self, send: Send, made: str) -> None:
        self.to, self.made, self.body = send, made.encode(), b""
        self.start: Message | None = None

    async def send(self, message: Message) -> None:
        """One message of the response."""
        if message["type"] == "http.response.start":
            self.start = message
            return
        self.body += message.get("body", b"")
        if message.get("more_body"):
            return
        assert self.start is not None  # a response starts before its body
        headers = MutableHeaders(raw=self.start["headers"])
        if headers.get("content-type", "").startswith("text/html") and self.body:
            self.body = _HEAD.sub(lambda found: found[0] + self.made, _TAGS.sub(b"", self.body), count=1)
            headers["content-length"] = str(len(self.body))
        await self.to(self.start)
        await self.to({"type": "http.response.body", "body": self.body})
