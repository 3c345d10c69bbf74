// Links: what the address says goes to the server once, and the Share button shows, and copies, the link the server made.
(() => {
  let read = false;
  const lost = window.patchlabLost() !== null;
  // settings are set once, so that nobody's later change is taken back, and once more for the preset that the address names
  window.patchlabAddress = (preset = false) => {
    // after the server was away the page is loaded anew with the last run instead (keep.js)
    const address = (read && !preset) || lost ? '' : location.search;
    setTimeout(() => { read = true; }, 0);  // two handlers ask in the same moment
    return address;
  };
  const tab = () => document.querySelector('button[role="tab"][aria-selected="true"]');
  window.patchlabTab = () => tab()?.textContent.trim() ?? '';
  window.patchlabRun = () => setTimeout(() => document.querySelector('#run')?.click(), 200);

  const close = () => document.querySelector('#share-box')?.classList.remove('open');
  window.patchlabShared = () => requestAnimationFrame(async () => {
    const box = document.querySelector('#share-box');
    box.classList.add('open');
    const field = box.querySelector('input');
    if (!field) return;
    field.value = `${location.origin}${location.pathname}?${field.dataset.query}`;
    const said = await window.patchlabCopied(field.value);
    box.querySelector('.share-said').textContent = said ? 'The link is copied.' : 'Copy this link:';
    field.focus();
    field.select();
  });
  document.addEventListener('click', (event) => {
    document.querySelectorAll('.link-note p').forEach((each) => { each.hidden = true; });  // it has been read
    if (event.target.closest?.('#share')) document.querySelector('.share-make')?.click();
    else if (!event.target.closest?.('#share-box, .share-make')) close();
  });
  document.addEventListener('keydown', (event) => { if (event.key === 'Escape') close(); });
})();
