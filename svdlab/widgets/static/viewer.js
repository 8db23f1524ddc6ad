// The sweep viewer: a table and a source of media in, a view that a person can change out. It knows nothing of kernels.

/**
 * Build a viewer in `root`.
 *
 * - `table`: rows {cell, status, error, settings: {name: value}, metrics: {name: number or null}} in the order of the grid
 * - `axes`: name -> values in order; `metrics`: name -> {unit, direction, title}
 * - `view`: {x, y, super_x, super_y, lock, metric, filters, sort, shortlist, show}, as View.to_dict writes it
 * - `media`: {thumb(cell), video(cell), code(cell)} -> url, url, text, or promises of them
 * - `clip`: {frames, fps, width, height} of clips whose settings do not say (num_frames, fps, width, height)
 * - `progress`: {text, notice}; `selected`: a cell or null; `height`: of the tiles' window in px
 * - `onview(view)`, `onselect(cell)`, `onexport({what, path})`, `exportPath`: without `onexport` nothing can be written
 *
 * Returns {update({table, axes, metrics, view, progress, selected, clip}), dispose()}.
 */
function createViewer(root, options) {
  const state = { progress: {}, selected: null, ...options };
  const media = new MediaCache(options.media);
  const ending = new AbortController();
  const clipOf = (cell) => clipShape(state.rows.get(cell), state.clip);
  const clock = new Clock({ frames: longestClip(state), fps: commonRate(state), loop: true });

  const actions = {
    select: (cell) => select(cell),
    open: (cell) => {
      select(cell);
      panel.focus();
    },
    star: (cell) => {
      const { shortlist } = state.view;
      const without = shortlist.filter((one) => one !== cell);
      change({ ...state.view, shortlist: without.length < shortlist.length ? without : [...shortlist, cell] });
    },
    toggle: () => {
      wake();
      clock.toggle();
    },
    clear: () => select(null),
    close: () => {
      const { selected } = state;
      select(null);
      grid.focus(selected);
    },
  };
  const grid = new TileGrid({ media, clock, clipOf, actions });
  const panel = new CellPanel({ media, clock, clipOf, metrics: state.metrics, actions });
  const bar = new ViewBar({ axes: state.axes, metrics: state.metrics, change: (view) => change(view) });
  const transport = new Transport(clock, wake);
  const status = element("p", { class: "svdlab-status", role: "status" });
  const notice = element("p", { class: "svdlab-notice" });
  const legend = element("div", { class: "svdlab-legend-place" });
  const size = slider("Size of the tiles", { min: 48, max: 256, step: 8 }, (px) => root.style.setProperty("--svdlab-tile", `${px}px`));
  size.value = 96;
  const foot = element("div", { class: "svdlab-row" }, transport.node, labelled("Size", size), legend);
  const scroll = element("div", { class: "svdlab-scroll" }, grid.node);
  if (options.height) scroll.style.maxHeight = `${options.height}px`;
  const middle = element("div", { class: "svdlab-middle" }, scroll, panel.node);
  root.classList.add("svdlab-viewer");
  const frame = element("div", { class: "svdlab-frame-box", role: "group", "aria-label": "sweep viewer" });
  frame.append(status, notice, bar.node, foot, middle);
  if (options.onexport) frame.append(new ExportRow(options.onexport, options.exportPath ?? "").node);
  root.append(frame);
  keepKeys(frame, ending.signal);
  index();
  draw();

  function index() {
    state.rows = new Map(state.table.map((row) => [row.cell, row]));
    const shape = clipShape(state.table.find((row) => row.status === "done"), state.clip);
    if (shape.width && shape.height) root.style.setProperty("--svdlab-aspect", `${shape.width} / ${shape.height}`);
  }

  function wake() {
    grid.setMoving(true);
  }

  function change(view) {
    state.view = view;
    draw();
    options.onview?.(view);
  }

  function select(cell) {
    if (cell === state.selected) return;
    state.selected = cell;
    draw();
    options.onselect?.(cell);
  }

  function draw() {
    const { table, axes, view } = state;
    const arrangement = arrangeView(table, axes, view);
    const range = view.metric ? metricRange(table, view.metric) : null;
    const starred = new Set(view.shortlist);
    status.textContent = state.progress.text ?? "";
    notice.textContent = state.progress.notice ?? "";
    notice.hidden = !state.progress.notice;
    const passing = table.filter((row) => passesFilters(row, view.filters)).length;
    bar.update(view, { passing, count: table.length });
    const heated = view.metric !== null && view.show !== "grid";
    legend.replaceChildren(...(heated ? [heatLegend(view.metric, state.metrics[view.metric], range)] : []));
    grid.update(arrangement, { view, range: heated ? range : null, selected: state.selected, starred });
    const row = state.rows.get(state.selected) ?? null;
    const tile = row && arrangement.tiles.flat().find((one) => one.cells.includes(row.cell));
    const siblings = (tile?.cells ?? []).map((cell) => state.rows.get(cell));
    panel.update(row, { axes, siblings, starred: row !== null && starred.has(row.cell) });
  }

  return {
    update(changes) {
      Object.assign(state, changes);
      if (changes.table) {
        index();
        transport.setFrames(longestClip(state));
      }
      if (changes.axes || changes.metrics) {
        panel.metrics = state.metrics;
        bar.setTable(state.axes, state.metrics);
      }
      draw();
    },
    dispose() {
      ending.abort();
      grid.dispose();
      panel.dispose();
      clock.dispose();
      media.dispose();
      frame.remove();
    },
  };
}

/** Frames, rate and size of a row's clip: its settings where they say so, else what all clips have. */
function clipShape(row, common = {}) {
  const { num_frames: frames, fps, width, height } = row?.settings ?? {};
  return {
    frames: frames ?? common?.frames ?? 25,
    fps: fps ?? common?.fps ?? 10,
    width: width ?? common?.width,
    height: height ?? common?.height,
  };
}

function longestClip({ table, clip }) {
  return table.reduce((most, row) => Math.max(most, clipShape(row, clip).frames), 1);
}

function commonRate({ table, clip }) {
  return clipShape(table[0], clip).fps;
}
