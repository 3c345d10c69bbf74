"""The stream of answers: an event that is asked while the server ends the stream is answered all the same."""

from __future__ import annotations

import pytest
from made_visit import Visit, served
from playwright.sync_api import Browser

from patchlab.engine import Lab

pytestmark = pytest.mark.xdist_group("tabs")

# the word that ends the stream is long on its way, as on a slow line; what was sent before it is not
SLOW = """(() => { const plain = window.fetch, text = new TextDecoder(), bytes = new TextEncoder(); window.ends = [];
  window.fetch = async (input, init) => {
    const answer = await plain(input, init);
    if (!String(input.url ?? input).includes('/queue/data')) return answer;
    const slow = new TransformStream({async transform(chunk, out) {
      const said = text.decode(chunk), word = said.indexOf('"close_stream"');
      const at = word < 0 ? said.length : said.lastIndexOf('data:', word);
      if (at) out.enqueue(bytes.encode(said.slice(0, at)));
      if (at === said.length) return;
      window.ends.push('on its way');
      await new Promise((done) => setTimeout(done, 4000));
      window.ends.push('there');
      out.enqueue(bytes.encode(said.slice(at))); }});
    return new Response(answer.body.pipeThrough(slow), answer); }; })();"""


def test_a_click_while_the_stream_ends_is_answered(browser: Browser, lab: Lab) -> None:
    with served(lab) as address:
        visit = Visit(browser, address, script=SLOW)
        visit.length(8)
        visit.page.fill("#prompt textarea", "Hello")
        visit.page.click("#run")
        visit.page.wait_for_function("document.querySelector('#status').innerText.includes('Done')")
        visit.page.wait_for_function("window.ends.at(-1) === 'on its way'")
        before = visit.page.evaluate("window.ends.length")
        with visit.ending():
            visit.page.click("#run")
            assert visit.page.evaluate("window.ends.length") == before  # asked in time
        visit.page.wait_for_function("window.ends.at(-1) === 'there'")
        visit.run(tokens=16)
        visit.left(address)
