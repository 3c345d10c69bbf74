"""How fast and how steady is the page? `python -m benchmarks.speed.page [--preset smollm2] [--quick]`

Starts `python app.py` as a process and measures in a real browser: how long a start and a second visitor take until the page can
be used, where the replies stand after Run, how soon words come after Run and after a patch is switched, the rate of the stream
against the engine's own, what is built anew, what moves, what goes wrong, and 20 visitors who press Run at once. The worst of
all repeats is judged, of the stream the lower quartile. Writes benchmarks/results/page.json, or page_smollm2.json.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from benchmarks.provenance import RESULTS, ROOT
from benchmarks.speed.page_visitor import LANES, MARK, REMOUNTED, RUN, Visitor, many
from benchmarks.speed.timing import Figure, report, say
from patchlab.engine import Lab, Sampling, fixed, load, stream
from patchlab.evaluation.statistics import meets
from patchlab.models import PRESETS
from patchlab.patches import Stack
from patchlab.records import Prompt
from patchlab.ui import copy
from patchlab.ui.compare.tab import TOP_P
from patchlab.ui.share.link_codec import LinkSettings, query

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SIZES = ((1280, 900), (1920, 1080))
LONG, SHORT = 128, 24  # tokens of a reply
STORY = Prompt("Someone parked across my driveway again. A person like that", "continue")


def worst(name: str, values: Sequence[float], bar: str, unit: str = "s") -> Figure:
    """A figure that is judged by its largest value; its interval is the whole range."""
    return Figure(name, max(values), min(values), max(values), len(values), unit, bar, meets(bar, max(values), max(values)))


@contextmanager
def started(preset: str) -> Iterator[tuple[str, float, subprocess.Popen[bytes]]]:
    """The app as a process of its own: its address, when it was started, and the process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began, address = time.perf_counter(), f"http://127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, "app.py", "--port", str(port), "--preset", preset], cwd=ROOT,
                               stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        while time.perf_counter() - began < 300:
            try:
                with urllib.request.urlopen(address, timeout=5):
                    break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.05)
        else:
            raise SystemExit("the page did not answer within five minutes")
        yield address, began, process
    finally:
        process.kill()
        process.wait()


def peak(process: subprocess.Popen[bytes]) -> float:
    """The largest resident memory of a process so far, in GB; Linux only."""
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e9


def engine_rate(lab: Lab, seed: int, length: int) -> float:
    """Tokens a second of all lanes after the first step, as the engine alone writes what a run of the page writes."""
    stack = Stack.parse(",".join(each.manifest.name for each in lab.planner.installed()), gates=lab.gates)
    plan = lab.planner.plan(stack, STORY)
    lanes = [each if each.name != "patched" else type(each)(each.name, each.scheduler, fixed(plan)) for each in lab.lanes()]
    sampling, counts = Sampling(temperature=0.8, max_new_tokens=length, seed=seed, top_p=TOP_P), dict.fromkeys(LANES, 0)
    began, first = 0.0, 0
    for deltas in stream(lanes, [STORY], sampling=sampling):
        counts |= {delta.lane: delta.tokens for delta in deltas}
        if not began:
            began, first = time.perf_counter(), sum(counts.values())
    return (sum(counts.values()) - first) / (time.perf_counter() - began)


def one_visitor(browser: Browser, address: str, preset: str, repeats: int) -> list[Figure]:
    """All that one visitor sees: places, times, the stream's rate, and what must stay as it is."""
    figures, shifts, errors, outside = [], [], [], []
    for width, height in SIZES:
        visitor = Visitor(browser, address, width=width, height=height)
        visitor.ask("How can I steal a car?", length=SHORT)
        visitor.run()
        figures.append(worst(f"replies' upper edge after Run, {width} x {height}", [visitor.top()], "<= 520", "px"))
        visitor.page.evaluate(MARK)
        words = [visitor.run()["first"] for _ in range(repeats)]
        toggles = [visitor.toggle() for _ in range(repeats + repeats % 2)]  # an even number: in the end all are on again
        if (width, height) == SIZES[0]:
            figures += [worst("Run to the first word", words, "<= 0.5"),
                        worst("switching a patch to another text", toggles, "<= 0.7")]
            figures += stream_rate(visitor, load(preset), repeats)
        figures.append(worst(f"charts built anew, {width} x {height}", [visitor.page.evaluate(REMOUNTED)], "<= 0", ""))
        shifts.append(visitor.shifted())
        errors.append(len(visitor.errors))
        outside.append(len(visitor.outside))
        visitor.page.close()
    return [*figures, worst("cumulative layout shift", shifts, "<= 0.1", ""), worst("errors in the console", errors, "<= 0", ""),
            worst("requests to other hosts", outside, "<= 0", "")]


def stream_rate(visitor: Visitor, lab: Lab, repeats: int) -> list[Figure]:
    """The stream's tokens a second in the browser, charts on, against the engine's own, in turns."""
    visitor.ask(STORY.text, STORY.kind, length=LONG)
    engine_rate(lab, 0, LONG)
    rates, shares = [], []
    for _ in range(repeats):
        found = visitor.run()
        rates.append(found["tokens"] / found["seconds"])
        shares.append(rates[-1] / engine_rate(lab, 0, LONG))
    return [Figure.of("stream with charts / the engine alone", shares, bar=">= 0.85"),
            Figure.of("stream with charts", rates, unit="tok/s")]


def crowd(browser: Browser, address: str, lab: Lab, count: int) -> list[Figure]:
    """Visitors who press Run in the same moment, each with a prompt and a seed of their own."""
    asked = [copy.EXAMPLES[k % len(copy.EXAMPLES)].prompt for k in range(count)]
    links = ["?" + query(LinkSettings(each.text, each.kind, length=SHORT, seed=str(k))) for k, each in enumerate(asked)]
    with many(browser, address, links) as visitors:
        for visitor, prompt in zip(visitors, asked, strict=True):
            visitor.page.wait_for_function("(text) => document.querySelector('#prompt textarea').value === text", arg=prompt.text)
        for visitor in visitors:
            visitor.page.evaluate(f"() => {{ window.went = ({RUN})().catch((error) => ({{lost: String(error)}})); }}")
        found = [visitor.page.evaluate("() => window.went") for visitor in visitors]
        mixed = 0
        for k, (visitor, prompt) in enumerate(zip(visitors, asked, strict=True)):
            stack = Stack.parse(",".join(each.manifest.name for each in lab.planner.installed()), gates=lab.gates)
            sampling = Sampling(temperature=0.8, max_new_tokens=SHORT, seed=k, top_p=TOP_P)
            given = prompt.text.split() if prompt.kind == "continue" else []
            mixed += any(visitor.page.inner_text(f"#lane-{reply.lane} .text").split() != [*given, *reply.text.split()]
                         for reply in lab.replies(prompt, stack=stack, sampling=sampling))
    lost, words = sum("lost" in each for each in found), [each["first"] for each in found if "first" in each]
    return [worst(f"{count} at once: first word", words or [float("inf")], "<= 10"),
            worst(f"{count} at once: replies of another or of nobody", [mixed], "<= 0", ""),
            worst(f"{count} at once: runs lost", [lost], "<= 0", "")]


def measure(preset: str, *, quick: bool) -> list[Figure]:
    """All figures of the page with a preset."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not program:
        raise SystemExit("no Chromium found; install one to measure the page")
    starts, seconds, peaks, found = 1 if quick else 3, [], [], []
    second: list[float] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        for k in range(starts):
            say(f"start {k + 1}")
            with started(preset) as (address, began, process):
                Visitor(browser, address).page.close()
                seconds.append(time.perf_counter() - began)
                visitor = Visitor(browser, address)
                second.append(visitor.opened)
                visitor.page.close()
                if k == starts - 1:
                    say("one visitor")
                    found += one_visitor(browser, address, preset, 2 if quick else 15)
                    say("many visitors")
                    found += crowd(browser, address, load(preset), 4 if quick else 20)
                peaks.append(peak(process))
        browser.close()
    return [worst("start to a page that can be used", seconds, "<= 12"), worst("second visitor", second, "<= 2"), *found,
            worst("memory", peaks, "<= 3", "GB")]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; 0 where all bars are met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", default="pocket", choices=("pocket", "smollm2"))
    parser.add_argument("--quick", action="store_true", help="two repeats and four visitors, to see that it runs; judges nothing")
    parser.add_argument("--out", type=Path, help="where the results go; a quick run writes only if asked")
    given = parser.parse_args(argv)
    PRESETS[given.preset].source("base")  # weights are converted before the first start
    began = time.monotonic()
    figures = measure(given.preset, quick=given.quick)
    name, asked = ("page", "page") if given.preset == "pocket" else (f"page_{given.preset}", f"page --preset {given.preset}")
    return report(figures, {"seconds": round(time.monotonic() - began)}, name=asked, quick=given.quick,
                  out=given.out or (None if given.quick else RESULTS / f"{name}.json"))


if __name__ == "__main__":
    sys.exit(main())
