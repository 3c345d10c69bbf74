// Says within three seconds that the server is away, in the page's own words, and loads the page anew when it is back.
(() => {
  const OFTEN = 1000, SELDOM = 4000, PATIENCE = 20000, LOST = 'patchlab-lost';
  let away = false, first = '', asking = false, timer = null;

  const bar = () => {
    const made = document.createElement('aside');
    made.id = 'offline';
    made.setAttribute('role', 'alert');
    const head = made.appendChild(document.createElement('strong'));
    head.textContent = 'The server is not reachable.';
    made.append(' Replies that were being written are lost. This page comes back by itself, with your last run.');
    return document.body.appendChild(made);
  };
  const leave = () => {
    if (away) return;
    away = true;
    document.documentElement.classList.add('offline');
    document.querySelector('#offline') ?? bar();
    document.querySelectorAll('[aria-busy="true"]').forEach((each) => each.setAttribute('aria-busy', 'false'));
    const line = document.querySelector('#status p');
    if (line) { line.textContent = 'The server is not reachable. Waiting for it…'; line.className = 'status alert'; }
    remember();
  };
  const remember = () => {
    try { sessionStorage.setItem(LOST, document.querySelector('#prompt textarea')?.value ?? ''); } catch { /* it is forgotten */ }
  };
  const back = () => { remember(); location.reload(); };  // what the server knew of this page is gone: its session and streams

  // a killed server refuses at once, and a proxy answers in its place with an error; a busy server is slow and not away
  const ask = async () => {
    if (asking) return;
    asking = true;
    const patience = new AbortController(), late = setTimeout(() => patience.abort(), PATIENCE);
    try {
      const answer = await fetch('gradio_api/app_id', {signal: patience.signal, cache: 'no-store'});
      if (!answer.ok) throw new Error('away');
      const {app_id: id} = await answer.json();
      if (away || (first && id !== first)) back(); else first = id;
    } catch (error) {
      if (first && error.name !== 'AbortError') leave();
    } finally {
      clearTimeout(late);
      asking = false;
    }
  };
  const next = () => {
    const busy = away || document.querySelector('#lanes [aria-busy="true"]');
    clearTimeout(timer);
    timer = setTimeout(async () => { if (!document.hidden) await ask(); next(); }, busy ? OFTEN : SELDOM);
  };
  addEventListener('offline', leave);
  addEventListener('online', ask);
  document.addEventListener('visibilitychange', () => { if (!document.hidden) ask(); });
  // whoever asks for something wants to know at once
  document.addEventListener('click', (event) => { if (event.target.closest?.('button')) { ask(); next(); } });
  document.addEventListener('keydown', (event) => { if (event.key === 'Enter') { ask(); next(); } });
  const begin = () => { ask(); next(); };
  if (document.readyState === 'complete') begin(); else addEventListener('load', begin);
})();
