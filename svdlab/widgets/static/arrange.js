// A table and a view -> headers and tiles; the same as svdlab/widgets/arrange.py and View.select.
//
// A row of the table is {cell, status, error, settings, metrics}; a view is what View.to_dict writes.

const PLACES = ["x", "y", "super_x", "super_y"];

/** The axes that are in no place. */
function otherAxes(view, axes) {
  return Object.keys(axes).filter((name) => !PLACES.some((place) => view[place] === name));
}

/** The view with an axis (or null) put in a place; an axis that was elsewhere trades with the one it pushes out. */
function placeAxis(view, axes, place, name) {
  const next = { ...view };
  const before = PLACES.find((other) => view[other] === name);
  if (name !== null && before) next[before] = view[place];
  next[place] = name;
  return withFullLock(next, axes);
}

/** The view with an axis locked to a value, or to all of them (null). */
function lockAxis(view, axes, name, value) {
  const next = { ...view, lock: { ...view.lock, [name]: value } };
  for (const place of PLACES) if (next[place] === name) next[place] = null;
  return withFullLock(next, axes);
}

function withFullLock(view, axes) {
  const lock = {};
  for (const name of otherAxes(view, axes)) lock[name] = name in view.lock ? view.lock[name] : (axes[name][0] ?? null);
  return { ...view, lock };
}

/** Whether a row has, for each filter, a value within its limits. */
function passesFilters(row, filters) {
  return Object.entries(filters).every(([name, [low, high]]) => {
    const value = row.metrics[name] ?? null;
    return value !== null && (low === null || value >= low) && (high === null || value <= high);
  });
}

/** {rows, columns, tiles, captions}; headers are lists of [axis, value]; captions are null for a grid. */
function arrangeView(table, axes, view) {
  if (view.show === "shortlist") {
    const found = new Map(table.map((row) => [row.cell, row]));
    return flatArrangement(view.shortlist.filter((cell) => found.has(cell)).map((cell) => found.get(cell)), axes, view);
  }
  const locks = Object.entries(view.lock).filter(([, value]) => value !== null);
  const shown = table.filter((row) => locks.every(([name, value]) => row.settings[name] === value));
  if (view.sort) return flatArrangement(shown.filter((row) => passesFilters(row, view.filters)), axes, view);
  return gridArrangement(shown, axes, view);
}

function gridArrangement(shown, axes, view) {
  const rows = headersOf(axes, [view.super_y, view.y]);
  const columns = headersOf(axes, [view.super_x, view.x]);
  const names = [view.super_y, view.y, view.super_x, view.x].filter((name) => name !== null);
  const placed = new Map();
  for (const row of shown) {
    const where = JSON.stringify(names.map((name) => row.settings[name]));
    if (!placed.has(where)) placed.set(where, []);
    placed.get(where).push(row);
  }
  const tiles = rows.map((row) =>
    columns.map((column) => {
      const where = JSON.stringify([...row, ...column].map(([, value]) => value));
      return makeTile(placed.get(where) ?? [], view);
    }),
  );
  return { rows, columns, tiles, captions: null };
}

function headersOf(axes, names) {
  let headers = [[]];
  for (const name of names.filter((given) => given !== null)) {
    headers = headers.flatMap((header) => axes[name].map((value) => [...header, [name, value]]));
  }
  return headers;
}

function flatArrangement(shown, axes, view) {
  let rows = shown;
  if (view.sort) {
    const [name, ascending] = view.sort;
    const known = shown.filter((row) => (row.metrics[name] ?? null) !== null);
    const rest = shown.filter((row) => (row.metrics[name] ?? null) === null);
    const sign = ascending ? 1 : -1;
    rows = [...known.sort((a, b) => sign * (a.metrics[name] - b.metrics[name])), ...rest];
  }
  const said = (name) => view.show !== "shortlist" && (view.lock[name] ?? null) !== null; // the same for all
  const varied = Object.keys(axes).filter((name) => axes[name].length > 1 && !said(name));
  return {
    rows: [[]],
    columns: rows.map(() => []),
    tiles: [rows.map((row) => makeTile([row], view))],
    captions: rows.map((row) => varied.map((name) => [name, row.settings[name]])),
  };
}

function makeTile(rows, view) {
  if (!rows.length) return { cells: [], cell: null, status: "missing", value: null, dimmed: false, error: null };
  const rank = (row) => {
    if (row.status === "done") return passesFilters(row, view.filters) ? 0 : 1;
    return row.status === "failed" ? 2 : 3;
  };
  const shown = rows.reduce((best, row) => (rank(row) < rank(best) ? row : best));
  const values = rows.map((row) => row.metrics[view.metric] ?? null).filter((value) => value !== null);
  return {
    cells: rows.map((row) => row.cell),
    cell: shown.cell,
    status: shown.status,
    value: values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null,
    dimmed: shown.status === "done" && !rows.some((row) => passesFilters(row, view.filters)),
    error: shown.error,
  };
}

/** A header in words, such as "cond_aug 0.3, steps 4". */
function headerLabel(header) {
  return header.map(([name, value]) => `${name} ${value}`).join(", ");
}
