// The visitor's runs, kept by the browser and by nothing else: at most MOST of them and SIZE characters, the oldest go first.
(() => {
  const MOST = 50, SIZE = 2000000, LOST = 'patchlab-lost';
  const place = (preset) => `patchlab-runs:${preset}`;
  const kept = (preset) => {
    try {
      const found = JSON.parse(localStorage.getItem(place(preset)) ?? '[]');
      return Array.isArray(found) ? found.filter((each) => typeof each?.key === 'string' && typeof each.record === 'string') : [];
    } catch { return []; }
  };
  const write = (preset, runs) => {
    while (runs.length && (runs.length > MOST || runs.reduce((sum, each) => sum + each.record.length, 0) > SIZE)) runs.pop();
    while (true) {
      try { localStorage.setItem(place(preset), JSON.stringify(runs)); return; } catch {
        if (!runs.length) return;  // nothing may be kept here: the runs are listed until the page closes
        runs.length = Math.floor(runs.length / 2);
      }
    }
  };
  window.patchlabKeep = (preset, text) => {
    if (!text) return;
    const run = JSON.parse(text);
    write(preset, [run, ...kept(preset).filter((each) => each.key !== run.key)]);
  };
  window.patchlabForget = (preset) => { try { localStorage.removeItem(place(preset)); } catch { /* nothing was kept */ } };
  // what was being typed when the server went away, null where it did not; a browser may forbid a page to keep anything
  window.patchlabLost = (forget = false) => {
    try {
      const typed = sessionStorage.getItem(LOST);
      if (forget) sessionStorage.removeItem(LOST);
      return typed;
    } catch { return null; }
  };
  window.patchlabListed = (preset) => {
    const runs = kept(preset);
    // the page was loaded anew because the server was away: the last run is shown again, and then what was being typed
    const typed = window.patchlabLost(true);
    if (typed !== null) setTimeout(() => {
      if (runs.length) recall(runs[0].key);
      shown(() => type(typed), runs.length ? 200 : 0);
    }, 500);
    return JSON.stringify(runs.map((each) => each.row));
  };
  const shown = (then, tries) => {
    if (!tries || document.querySelector('#verdict .verdict')?.dataset.ran) setTimeout(then, 300);
    else setTimeout(() => shown(then, tries - 1), 100);
  };
  const type = (text) => {
    const field = document.querySelector('#prompt textarea');
    if (!field || !text || field.value === text) return;
    field.value = text;
    field.dispatchEvent(new Event('input', {bubbles: true}));
  };
  let wanted = '';
  const recall = (key) => { wanted = key; document.querySelector('.recall-run')?.click(); };
  window.patchlabRecalled = (preset) => kept(preset).find((each) => each.key === wanted)?.record ?? '';
  window.patchlabSave = (text, name) => {
    if (!text) return;
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([text], {type: name.endsWith('.json') ? 'application/json' : 'text/csv'}));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  // a chart as a picture: in the page's colours, with its title and its key
  const picture = (button) => {
    const chart = button.closest('.chart'), node = chart.querySelector('.live-chart-node');
    if (!node?.data || !window.Plotly) return;
    const title = chart.querySelector('h2').textContent.trim(), fill = getComputedStyle(chart).backgroundColor;
    const layout = {...node.layout, paper_bgcolor: fill, plot_bgcolor: fill, showlegend: true, legend: {orientation: 'h', y: -0.25},
      title: {text: title, font: {size: 15}}, margin: {l: 50, r: 20, t: 50, b: 60}};
    window.Plotly.downloadImage({data: node.data, layout}, {format: 'png', width: 900, height: 450, scale: 2,
      filename: `patchlab-${title.split(' ')[0].toLowerCase()}`});
  };
  document.addEventListener('click', (event) => {
    const again = event.target.closest?.('button.recall'), png = event.target.closest?.('button.chart-png');
    if (again) recall(again.dataset.key);
    if (png) picture(png);
  });
})();
