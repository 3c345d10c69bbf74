// ?view=walkthrough in the page's address fills the window with it. Settings in the address are read by share.js.
(() => {
  const asked = new URLSearchParams(location.search);
  const soon = (find, act, tries = 1200) => {
    const found = find();
    if (found) act(found);
    else if (tries) setTimeout(() => soon(find, act, tries - 1), 100);
  };
  // a tab answers only once the page has come to life, and nothing says when: it is clicked until it is chosen
  const opened = (label) => soon(() => {
    const tab = [...document.querySelectorAll('button[role="tab"]')].find((each) => each.textContent.trim() === label);
    if (tab?.getAttribute('aria-selected') === 'true') return tab;
    tab?.click();
    return null;
  }, () => {});
  // the recorded steps cannot see the page's theme from inside their frame
  const told = () => document.querySelector('#walkthrough')?.contentWindow?.postMessage({dark: document.body.classList.contains('dark')}, '*');

  const begin = () => {
    new MutationObserver(told).observe(document.body, {attributes: true, attributeFilter: ['class']});
    soon(() => document.querySelector('#walkthrough'), (frame) => { frame.addEventListener('load', told); told(); });
    if (asked.get('view') === 'walkthrough') {
      opened('Walkthrough');
      document.documentElement.classList.add('projector');  // the body's classes are set anew by gradio
      soon(() => document.querySelector('#walkthrough'), (frame) => frame.focus());
    }
  };
  // gradio may add this script when the page has been loaded already
  if (document.readyState === 'complete') begin(); else addEventListener('load', begin);
})();
