"""What the tab does in the browser itself, as the JavaScript functions that gradio calls for an event."""

from __future__ import annotations

import json

from patchlab.ui import copy

# said by the browser itself: at once, and never after what the run says of its end
_SAY = """const line = document.querySelector('#status p');
  if (line) { line.textContent = WORDS; line.className = 'status'; }"""
STOPPING = f"() => {{ {_SAY.replace('WORDS', json.dumps(copy.STOPPING))} return []; }}"
ASKING = f"""(...values) => {{
  {_SAY.replace('WORDS', json.dumps(copy.ASKING))}
  const asked = document.querySelector('#prompt textarea')?.value.trim();
  const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
  // on a phone the columns are further down
  if (asked && window.innerWidth < 700) {{
    document.querySelector('#verdict')?.scrollIntoView({{behavior: still ? 'auto' : 'smooth'}});
  }}
  return values;
}}"""
ANOTHER_SEED = "() => String(1 + Math.floor(Math.random() * 999999))"

_CHOOSE = """() => { const some = CHOSEN, example = some[Math.floor(Math.random() * some.length)];
  document.querySelector('#kind').dataset.example = JSON.stringify(example);
  return [...example, 'new']; }"""
TYPE_OVER = """(text, kind) => {
  const field = document.querySelector('#kind');
  if (!field.dataset.example) { return kind; }
  const [words, way] = JSON.parse(field.dataset.example);
  if (text.startsWith(words.slice(0, 6))) { return way; }
  delete field.dataset.example;
  return 'chat';
}"""
KEEP_KIND = "() => { delete document.querySelector('#kind').dataset.example; }"

# the replies belong to what was set when they were asked for; what is asked next in their conversation takes nothing from that
OUTDATED = """(...now) => { requestAnimationFrame(() => {
  const verdict = document.querySelector('#verdict .verdict'), talk = now.pop();
  now[5] = now[1] === 'chat' ? (now[5] || '').trim() : '';
  if (verdict?.dataset.ran) {
    const ran = JSON.stringify(JSON.parse(verdict.dataset.ran));
    verdict.classList.toggle('outdated', talk !== 'same' && JSON.stringify(now) !== ran);
  }
}); }"""
TYPE_NEXT = """(talk) => { const field = document.querySelector('#prompt textarea');
  if (talk === 'same') { field.focus(); field.select(); } }"""


def open_tab(label: str) -> str:
    """Open another tab of the page."""
    return f"""() => {{ [...document.querySelectorAll('button[role=tab]')].find((tab) =>
  tab.offsetParent && tab.textContent.trim() === {json.dumps(label)})?.click(); }}"""


def choose(prompts: str) -> str:
    """Fill in one of the prompts, JSON pairs of a text and its way of asking."""
    return _CHOOSE.replace("CHOSEN", prompts)
