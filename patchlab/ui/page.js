// What the page does by itself, for every tab: Escape stops, a button copies a reply, another one switches light and dark.
(() => {
  const KEPT = 'patchlab-theme';
  const kept = () => { try { return localStorage.getItem(KEPT); } catch { return null; } };
  const dress = (dark) => document.body.classList.toggle('dark', dark);

  // an address that asks for a theme is obeyed; else the visitor's last choice
  const begin = () => {
    const chosen = kept();
    if (chosen && !new URLSearchParams(location.search).has('__theme')) dress(chosen === 'dark');
  };
  // gradio may add this script when the page has been loaded already
  if (document.readyState === 'complete') begin(); else addEventListener('load', begin);

  // true where the text is in the clipboard
  const copied = window.patchlabCopied = async (text) => {
    if (navigator.clipboard) return navigator.clipboard.writeText(text).then(() => true, () => false);
    const field = document.body.appendChild(document.createElement('textarea'));  // pages without https have no clipboard
    field.value = text;
    field.select();
    const done = document.execCommand('copy');
    field.remove();
    return done;
  };

  document.addEventListener('click', async (event) => {
    if (event.target.closest?.('#theme')) {
      const dark = !document.body.classList.contains('dark');
      dress(dark);
      try { localStorage.setItem(KEPT, dark ? 'dark' : 'light'); } catch { /* the choice holds until the page closes */ }
    }
    const about = document.querySelector('details.about[open]');
    if (about && !about.contains(event.target)) about.open = false;
    const button = event.target.closest?.('button.copy');
    if (!button) return;
    const text = button.closest('.reply').querySelector('.text').cloneNode(true);
    text.querySelector('.given')?.remove();
    await copied(text.textContent.trim());
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  });

  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return;
    const about = document.querySelector('details.about[open]');
    if (about) { about.open = false; return; }
    if (document.querySelector('#lanes [aria-busy="true"]')) document.querySelector('#stop')?.click();
  });
})();
