"""What other programs read of a link to the page: our own title, description and image, and no trace of the framework's."""

from __future__ import annotations

import re
import urllib.request

from patchlab.ui import copy
from patchlab.ui.share import share_words
from patchlab.ui.share.link_preview import IMAGE, SIZE


def fetched(url: str, **headers: str) -> tuple[str, bytes]:
    """Type and body of what is at a local address."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(urllib.request.Request(url, headers=headers), timeout=60) as answer:
        return answer.headers["content-type"], answer.read()


def test_the_page_says_itself_what_a_link_to_it_shows(address: str) -> None:
    kind, body = fetched(address)
    text = body.decode()
    found = re.findall(r'<meta\s+(?:property|name)="([^"]+)"\s+content="([^"]*)"', text)
    tags = dict(found)
    assert kind.startswith("text/html") and len([name for name, _ in found if name == "og:title"]) == 1
    assert (tags["og:title"], tags["og:description"]) == (share_words.PREVIEW_TITLE, copy.LEAD)
    assert tags["og:image"] == tags["twitter:image"] == f"{address}preview.png"
    assert not [name for name, content in found if "radio" in content]
    assert text.endswith("</html>") or text.rstrip().endswith("</html>")


def test_the_image_is_small_and_of_the_size_it_says(address: str) -> None:
    kind, body = fetched(f"{address}preview.png")
    assert kind == "image/png" and body == IMAGE.read_bytes() and len(body) <= 300_000
    assert (int.from_bytes(body[16:20], "big"), int.from_bytes(body[20:24], "big")) == SIZE


def test_a_host_that_somebody_made_up_stays_text(address: str) -> None:
    _, body = fetched(address, **{"x-forwarded-host": 'x"><script>alert(1)</script>', "host": "127.0.0.1"})
    assert b"<script>alert(1)" not in body.split(b"</head>")[0].split(b"window.gradio_config")[0]


def test_there_is_an_icon(address: str) -> None:
    kind, body = fetched(f"{address}favicon.ico")
    assert "svg" in kind and b"<svg" in body
