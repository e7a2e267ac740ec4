'use strict';
// Draws what the page holds: the charts as they are, and three things to work with (parity, dynamics, map).
(() => {
  const { charts, widgets } = JSON.parse(document.getElementById('data').textContent);
  const COLOURS = ['#0072B2', '#D55E00', '#009E73', '#E69F00', '#CC79A7', '#56B4E9', '#444444'];
  const SYMBOLS = {
    centroid: 'circle', stratum: 'square', environment: 'cross', coverage: 'diamond', fill: 'triangle-up',
    random: 'circle', farthest: 'triangle-up',
  };
  // More points than this are drawn by the graphics processor.
  const MANY = 3000;
  const NARROW = window.matchMedia('(max-width: 640px)').matches;
  const TYPES = { f4: Float32Array, f8: Float64Array, i4: Int32Array, i2: Int16Array };
  const byId = (id) => document.getElementById(id);

  // ---- numbers and drawing

  function decoded(values) {
    if (Array.isArray(values)) return values.map((value) => (value === null ? NaN : value));
    const text = atob(values.bdata);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
    return new TYPES[values.dtype](bytes.buffer);
  }

  const decodedAll = (columns) =>
    Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, decoded(values)]));

  const AXIS = { automargin: true, zeroline: false, gridcolor: '#e6eaee', linecolor: '#5b6773', showline: true };

  const axis = (one = {}) => ({ ...AXIS, ...one, title: one.title && { font: { size: NARROW ? 11 : 13 }, standoff: 6, ...one.title } });

  function draw(place, data, layout) {
    const whole = {
      font: { family: 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif', size: NARROW ? 11 : 12.5, color: '#1d2733' },
      margin: { l: 56, r: 12, t: 10, b: 44 },
      paper_bgcolor: '#ffffff', plot_bgcolor: '#ffffff', colorway: COLOURS, hovermode: 'closest',
      legend: { orientation: 'h', x: 0, y: 1.02, yanchor: 'bottom' },
      // A finger that scrolls the page must not zoom a chart.
      dragmode: NARROW ? false : 'zoom',
      ...layout,
      xaxis: axis(layout.xaxis),
      yaxis: axis(layout.yaxis),
    };
    const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ['select2d', 'lasso2d'], displayModeBar: NARROW ? false : 'hover' };
    return Plotly.react(place, data, whole, config);
  }

  function fill(select, texts) {
    select.replaceChildren(...texts.map((text, index) => new Option(text, index)));
  }

  // ---- parity

  function parity({ sets }) {
    const [set, colour] = [byId('parity-set'), byId('parity-colour')];
    fill(set, sets.map((one) => one.title));
    const show = () => {
      const one = sets[Number(set.value)];
      const frames = { ...one.frames, temperature: decoded(one.frames.temperature_K) };
      const said = [
        parityPlot('energy', one.energy, frames, colour.value, 'energy from the mean (eV/atom)'),
        parityPlot('forces', one.forces, frames, colour.value, 'force component (eV/Å)'),
        parityPlot('stress', one.stress, frames, colour.value, 'stress component (GPa)'),
      ];
      byId('parity-note').textContent = said.filter(Boolean).join(' ');
    };
    set.onchange = show;
    colour.onchange = show;
    show();
  }

  function parityPlot(name, points, frames, by, label) {
    const [place, title] = [byId(`parity-${name}`), byId(`parity-${name}-title`)];
    const [x, y, frame] = [decoded(points.x), decoded(points.y), decoded(points.frame)];
    if (!x.length) {
      draw(place, [], {});
      title.textContent = `${name}: nothing to compare`;
      return '';
    }
    const type = x.length > MANY ? 'scattergl' : 'scatter';
    const traces = by === 'temperature'
      ? [temperatureTrace(x, y, frame, frames)]
      : groupedTraces(x, y, frame, frames[by]);
    let [low, high] = [Infinity, -Infinity];
    for (const values of [x, y]) for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
    const pad = 0.04 * (high - low) || 1e-3;
    const range = [low - pad, high + pad];
    const diagonal = { type: 'scatter', mode: 'lines', x: range, y: range, line: { color: '#444444', width: 1 }, hoverinfo: 'skip', showlegend: false };
    const full = traces.map((trace) => ({
      type, mode: 'markers', hovertemplate: '%{text}<br>DFT %{x:.4f}, potential %{y:.4f}<extra></extra>', ...trace,
      marker: { size: x.length > 1000 ? 4 : 7, opacity: 0.7, ...trace.marker },
    }));
    draw(place, [diagonal, ...full], {
      xaxis: { title: { text: `DFT: ${label}` }, range }, yaxis: { title: { text: 'potential' }, range, scaleanchor: 'x' },
      showlegend: by !== 'temperature' && traces.length <= 8,
    });
    title.textContent = `${name}, ${points.told}`;
    return x.length < points.n_points
      ? `Of the ${points.n_points.toLocaleString('en')} points of ${name} ${x.length.toLocaleString('en')}, evenly spaced, are drawn; the error includes all.`
      : '';
  }

  function temperatureTrace(x, y, frame, frames) {
    const known = (index) => Number.isFinite(frames.temperature[index]);
    return {
      x, y, text: Array.from(frame, (index) => `${frames.frame_id[index]}${known(index) ? `, ${frames.temperature[index]} K` : ''}`),
      marker: { color: Array.from(frame, (index) => (known(index) ? frames.temperature[index] : null)), colorscale: 'Viridis', showscale: true, colorbar: { title: { text: 'K' }, thickness: 10, len: 0.9 } },
    };
  }

  function groupedTraces(x, y, frame, names) {
    const groups = new Map();
    Array.from(frame).forEach((index, point) => {
      if (!groups.has(names[index])) groups.set(names[index], []);
      groups.get(names[index]).push(point);
    });
    return [...groups].map(([name, points], number) => ({
      name, x: points.map((point) => x[point]), y: points.map((point) => y[point]), text: points.map(() => name),
      marker: { color: COLOURS[number % COLOURS.length] },
    }));
  }

  // ---- dynamics

  function dynamics({ explorations }) {
    const set = byId('dynamics-set');
    const some = explorations.filter((one) => one.n_shown);
    fill(set, some.map((one) => one.title));
    set.value = String(some.length - 1);
    const show = () => {
      const one = some[Number(set.value)];
      const series = replicas(one);
      const many = series.length > 40;
      for (const [quantity, label] of [['temperature', 'temperature (K)'], ['energy', 'energy above lowest (meV/atom)']]) {
        const traces = series.map((replica) => ({
          type: 'scatter', mode: 'lines', x: replica.step, y: replica[quantity], name: replica.group, legendgroup: replica.group,
          showlegend: replica.first, line: { color: replica.colour, width: many ? 0.8 : 1.3 }, opacity: many ? 0.6 : 0.9,
          hovertemplate: `${replica.title}<br>step %{x}, %{y:.1f}<extra></extra>`,
        }));
        const stopped = series.filter((replica) => replica.guard);
        traces.push({
          type: 'scatter', mode: 'markers', name: 'stopped by a guard', x: stopped.map((replica) => replica.step.at(-1)),
          y: stopped.map((replica) => replica[quantity].at(-1)), marker: { symbol: 'x', size: 10, color: '#000000' },
          text: stopped.map((replica) => `${replica.title}: ${replica.guard.name} at step ${replica.guard.step}, ${replica.guard.value} against ${replica.guard.bound}`),
          hovertemplate: '%{text}<extra></extra>', showlegend: stopped.length > 0,
        });
        draw(byId(`dynamics-${quantity}`), traces, { xaxis: { title: { text: 'step' } }, yaxis: { title: { text: label } } });
      }
      byId('dynamics-note').textContent = `${series.length} replicas; ${thinned(one)}`;
    };
    set.onchange = show;
    if (some.length) show();
  }

  const thinned = (one) => (one.n_shown < one.n_frames
    ? `${one.n_shown.toLocaleString('en')} of ${one.n_frames.toLocaleString('en')} frames are shown, evenly spaced.`
    : `all ${one.n_frames.toLocaleString('en')} frames are shown.`);

  function replicas(one) {
    const frames = framesOf(one);
    const lowest = frames.energy_eV.reduce((least, energy, index) => Math.min(least, energy / frames.n_atoms[index]), Infinity);
    const found = new Map();
    frames.step.forEach((step, index) => {
      const key = `${frames.folder[index]} ${frames.replica[index]}`;
      if (!found.has(key)) found.set(key, []);
      found.get(key).push(index);
    });
    const groups = [];
    return [...found.values()].map((indices) => {
      indices.sort((a, b) => frames.step[a] - frames.step[b]);
      const job = one.jobs[frames.folder[indices[0]]];
      const number = frames.replica[indices[0]];
      const { conditions, guard } = job.replicas[number];
      const first = !groups.includes(conditions);
      if (first) groups.push(conditions);
      return {
        title: `MD job ${job.md_job}, replica ${number}, ${conditions}`, group: conditions, first, guard,
        colour: COLOURS[groups.indexOf(conditions) % COLOURS.length],
        step: indices.map((index) => frames.step[index]),
        temperature: indices.map((index) => frames.temperature_K[index]),
        energy: indices.map((index) => 1000 * (frames.energy_eV[index] / frames.n_atoms[index] - lowest)),
      };
    });
  }

  function framesOf(one) {
    one.decoded = one.decoded || decodedAll(one.frames);
    return one.decoded;
  }

  // ---- map

  async function map({ explorations, candidates, structures }) {
    const [set, colour, choice] = [byId('map-set'), byId('map-colour'), byId('map-candidate')];
    fill(set, explorations.map((one) => one.title));
    set.value = String(explorations.length - 1);
    fill(choice, candidates.map((one) => `${one.group}: ${one.frame_id}`));
    let viewer = null;

    const show = () => {
      const one = explorations[Number(set.value)];
      const explored = widgets.dynamics ? widgets.dynamics.explorations[one.exploration] : null;
      drawMap(one, explored && explored.n_shown ? explored : null, colour.value);
      byId('map-plot').removeAllListeners('plotly_click');
      byId('map-plot').on('plotly_click', ({ points }) => clicked(one, explored, points[0]));
    };

    const clicked = (one, explored, point) => {
      const candidate = point.data.meta === 'picks' ? point.customdata : null;
      if (candidate !== null) { tell(candidate, 'A selected frame: its structure and its origin.'); return; }
      if (point.data.meta === 'known') { say('A labelled frame of an earlier stage, known to this selection.'); return; }
      if (point.data.meta !== 'frames') return;
      const frames = framesOf(explored);
      const index = point.data.rows[point.pointNumber];
      const job = explored.jobs[frames.folder[index]];
      const frame = `Frame of MD job ${job.md_job}, replica ${frames.replica[index]}, step ${frames.step[index]} (${job.replicas[frames.replica[index]].conditions}; ${frames.temperature_K[index].toFixed(0)} K at that step)`;
      const representative = one.by_rank[frames.represented_by[index]];
      if (representative === undefined || representative < 0) { say(`${frame}. It was not selected, and no candidate represents it; its structure is not in the graph.`); return; }
      tell(representative, `${frame}. It was not selected, and its structure is not in the graph; the candidate that represents it is shown.`);
    };

    const say = (text) => { byId('map-said').textContent = text; };

    const tell = (index, text) => {
      const one = candidates[index];
      choice.value = String(index);
      say(one.structure === null ? `${text} The structure is omitted to limit the size of this page.` : text);
      byId('map-lineage').replaceChildren(...one.lineage.map(([name, value]) => {
        const row = document.createElement('tr');
        const [head, cell] = [document.createElement('th'), document.createElement('td')];
        head.scope = 'row';
        head.textContent = name;
        cell.textContent = value;
        row.append(head, cell);
        return row;
      }));
      ring(explorations[Number(set.value)].picks, index);
      byId('pick-structure').dataset.frame = one.structure === null ? '' : one.frame_id;
      if (viewer && one.structure !== null) viewer.select({ structure: one.structure, environment: one.structure, atom: undefined });
    };

    // The candidate that is shown has a ring, the last trace of the map.
    const ring = (picks, index) => {
      const [plot, place] = [byId('map-plot'), picks.candidate.indexOf(index)];
      const at = place < 0 ? { x: [[]], y: [[]] } : { x: [[decoded(picks.x)[place]]], y: [[decoded(picks.y)[place]]] };
      Plotly.restyle(plot, at, [plot.data.length - 1]);
    };

    set.onchange = show;
    colour.onchange = show;
    choice.onchange = () => tell(Number(choice.value), 'Selected from the list.');
    show();
    if (structures.structures) {
      const warnings = new Chemiscope.Warnings();
      warnings.addHandler((message) => say(message));
      viewer = await Chemiscope.StructureVisualizer.load({ meta: 'pick-meta', info: 'pick-info', structure: 'pick-structure' }, structures, warnings);
    }
    const picks = explorations[Number(set.value)].picks.candidate;
    if (picks.length) tell(picks[0], 'The first selected frame.');
    document.body.dataset.ready = 'yes';
  }

  function drawMap(one, explored, by) {
    const traces = [];
    // What the graphics processor draws lies above what it does not: picks are drawn in the way of the frames.
    const type = explored && explored.n_shown > MANY ? 'scattergl' : 'scatter';
    if (explored) traces.push({ type, ...frameTrace(framesOf(explored), by) });
    else if (one.density) traces.push(densityTrace(one.density));
    const [known, picks] = [one.known, one.picks].map(({ x, y }) => ({ x: decoded(x), y: decoded(y) }));
    if (known.x.length) {
      traces.push({ type, mode: 'markers', name: 'labelled before', meta: 'known', ...known, marker: { symbol: 'x-thin-open', size: 9, color: '#000000', line: { width: 2 } }, hovertemplate: 'labelled before<extra></extra>' });
    }
    [...new Set(one.picks.reason)].forEach((reason, number) => {
      const these = one.picks.reason.map((name, index) => (name === reason ? index : -1)).filter((index) => index >= 0);
      traces.push({
        type, mode: 'markers', meta: 'picks', name: `${reason} (${these.length})`,
        x: these.map((index) => picks.x[index]), y: these.map((index) => picks.y[index]),
        customdata: these.map((index) => one.picks.candidate[index]),
        text: these.map((index) => widgets.map.candidates[one.picks.candidate[index]].frame_id),
        hovertemplate: `%{text}<br>${reason}<extra></extra>`,
        marker: { symbol: SYMBOLS[reason] || 'circle', size: 12, color: ['#D55E00', '#CC79A7', '#009E73', '#0072B2'][number % 4], line: { width: 1.5, color: '#ffffff' } },
      });
    });
    traces.push({ type, mode: 'markers', name: 'shown', meta: 'shown', x: [], y: [], hoverinfo: 'skip', marker: { symbol: 'circle-open', size: 20, color: '#000000', line: { width: 2 } } });
    byId('map-note').textContent = explored
      ? `Small: explored frames; ${thinned(explored)} Large: selected frames. Crosses: frames labelled before.`
      : 'The frames of this run were not retrieved: grey is the number of frames in each bin. Large: selected frames.';
    byId('map-colour').parentElement.hidden = !explored;
    draw(byId('map-plot'), traces, {
      xaxis: { title: { text: one.axes[0] } }, yaxis: { title: { text: one.axes[1] } },
    });
  }

  function frameTrace(frames, by) {
    const rows = [];
    frames.x.forEach((x, index) => { if (Number.isFinite(x) && frames.rank[index] < 0) rows.push(index); });
    const take = (values) => rows.map((index) => values[index]);
    const coloured = by !== 'grey' && rows.some((index) => Number.isFinite(frames[by][index]));
    const names = { temperature_K: 'K', cluster: 'cluster', disagreement_eV_A: 'eV/Å' };
    const colour = coloured
      ? { color: take(frames[by]), colorscale: by === 'cluster' ? 'Portland' : 'Cividis', showscale: true, colorbar: { title: { text: names[by] }, thickness: 10, len: 0.8 } }
      : { color: '#8a94a0' };
    return {
      mode: 'markers', name: 'explored', meta: 'frames', rows, x: take(frames.x), y: take(frames.y),
      marker: { size: rows.length > 20000 ? 3 : 5, opacity: 0.65, ...colour },
      text: rows.map((index) => `replica ${frames.replica[index]}, step ${frames.step[index]}, ${frames.temperature_K[index].toFixed(0)} K`),
      hovertemplate: '%{text}<extra></extra>', showlegend: false,
    };
  }

  function densityTrace(density) {
    const middles = (edges) => edges.slice(1).map((edge, index) => (edge + edges[index]) / 2);
    const z = density.y_edges.slice(1).map((_, row) => density.counts.map((column) => (column[row] ? Math.log10(column[row]) : null)));
    return {
      type: 'heatmap', name: 'explored', meta: 'density', x: middles(density.x_edges), y: middles(density.y_edges), z, hoverongaps: false,
      colorscale: [[0, '#e3e6ea'], [1, '#7d8791']], colorbar: { title: { text: 'log₁₀ frames' }, thickness: 10, len: 0.8 },
      hovertemplate: '10^%{z:.1f} frames<extra></extra>',
    };
  }

  // ---- all of it

  document.querySelectorAll('[data-chart]').forEach((place) => {
    const { data, layout } = charts[place.dataset.chart];
    draw(place, data, layout);
  });
  // On paper a chart is what was drawn on the screen, as large as the paper allows.
  window.addEventListener('beforeprint', () => {
    document.querySelectorAll('details').forEach((one) => { one.open = true; });
    const plots = [...document.querySelectorAll('.plot')];
    const drawn = plots.map((plot) => plot.clientWidth);
    document.body.classList.add('paper');
    plots.forEach((plot, index) => plot.style.setProperty('--on-paper', Math.min(1.2, plot.clientWidth / drawn[index])));
  });
  window.addEventListener('afterprint', () => document.body.classList.remove('paper'));
  if (widgets.parity) parity(widgets.parity);
  if (widgets.dynamics) dynamics(widgets.dynamics);
  if (widgets.map) map(widgets.map);
  else document.body.dataset.ready = 'yes';
})();
