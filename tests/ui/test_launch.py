"""The page as a program of its own: any base from the command line, a proxy that is down, and mistakes in one line."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from made_models import byte_level, make_model

from patchlab.ui import copy
from patchlab.ui.launch import main

DOWN = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "https_proxy": "http://[::1",
        "all_proxy": "socks5://127.0.0.1:9"}


@contextmanager
def started(*options: str) -> Iterator[str]:
    """The address of the page as a process, behind proxies that do not answer, are mistyped or need another library."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "patchlab.ui", "--port", str(port), *options], env=os.environ | DOWN,
                               stdout=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def fetched(url: str) -> str:
    """The text at a local address, once it answers."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(1200):
        try:
            return str(direct.open(url, timeout=10).read(), "utf-8")
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


def test_any_base_is_served_also_where_a_proxy_is_down(tmp_path: Path) -> None:
    make_model("llama", vocabulary=len(byte_level())).save_pretrained(tmp_path / "my-llama")
    byte_level().save_pretrained(tmp_path / "my-llama")
    with started("--base", str(tmp_path / "my-llama")) as address:
        page = fetched(f"{address}/config")
    assert "The model is my-llama." in page and copy.NO_REFERENCE in page
    assert json.loads(page)["analytics_enabled"] is False


@pytest.mark.parametrize(("options", "words"), [
    (["--preset", "poket"], "did you mean 'pocket'"), (["--preset", "pocket", "--base", "."], "give one of them"),
    (["--base", "no/such/folder"], "no/such/folder"),
    (["--preset", "pocket", "--presets", "smolm2"], "did you mean 'smollm2'")])
def test_a_mistake_is_one_line(options: list[str], words: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(options)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_with_a_password_nothing_is_told_without_it_and_links_begin_with_the_proxys_path() -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor())
    with started("--preset", "pocket", "--auth", "ann:open:sesame", "--root-path", "/lab") as address:
        assert '"auth_required":true' in fetched(address)
        with pytest.raises(urllib.error.HTTPError) as refused:
            direct.open(f"{address}/config")
        with pytest.raises(urllib.error.HTTPError):
            direct.open(f"{address}/login", data=b"username=ann&password=open")
        direct.open(f"{address}/login", data=b"username=ann&password=open:sesame")
        config = json.loads(direct.open(f"{address}/config").read())
    assert refused.value.code == 401
    assert config["root"].endswith("/lab") and config["components"]


def test_a_name_without_a_password_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--auth", "ann"])
    assert "expected NAME:PASSWORD" in capsys.readouterr().err


# gradio leaves the socket open with which it tried
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SystemExit, match="cannot be listened on; expected a free port"):
            main(["--preset", "pocket", "--port", str(taken.getsockname()[1])])
