// A report's page: the viewer without a kernel, over files beside the page or data inside it; and a table that sorts.

/** Media of a page without a kernel: relative addresses, or what the page itself carries. */
class FileMedia {
  constructor({ embedded, codes, broken, videos }) {
    Object.assign(this, { embedded, codes, broken, videos });
  }

  thumb(cell) {
    return this.#address(cell, `thumbs/${cell}.jpg`);
  }

  /**
   * Servers without byte ranges (such as Python's) play a video but make every seek a silent failure, so over http the
   * whole clip is fetched first. From disk fetching is forbidden, and seeking works.
   */
  async video(cell) {
    if (!this.videos) throw new Error("this report was written without clips");
    const address = this.#address(cell, `clips/${cell}.mp4`);
    if (location.protocol === "file:" && !address.startsWith("data:")) return address;
    const answer = await fetch(address);
    if (!answer.ok) throw new Error(`${address}: ${answer.status} ${answer.statusText}`);
    return URL.createObjectURL(new Blob([await answer.arrayBuffer()], { type: "video/mp4" }));
  }

  code(cell) {
    return this.codes[cell];
  }

  #address(cell, path) {
    if (cell in this.broken) throw new Error(this.broken[cell]);
    return this.embedded?.[path] ?? path;
  }
}

/** The view that the address carries after "#", if it is one of this table; else the report's own. */
function viewFromAddress(view, { axes, facts, rows }) {
  let given;
  try {
    given = JSON.parse(decodeURIComponent(location.hash.slice(1)));
  } catch {
    return view;
  }
  const isAxis = (name) => name === null || Object.hasOwn(axes, name);
  const isMetric = (name) => Object.hasOwn(facts, name);
  const cells = new Set(rows.map(([cell]) => cell));
  const isLimit = (limit) => limit === null || Number.isFinite(limit);
  try {
    const places = PLACES.map((place) => given[place]);
    const placed = places.filter((name) => name !== null);
    const good =
      places.every(isAxis) &&
      new Set(placed).size === placed.length &&
      (given.metric === null || isMetric(given.metric)) &&
      Object.hasOwn(SHOW_NAMES, given.show) &&
      Object.entries(given.lock).every(([name, value]) => axes[name].includes(value) || value === null) &&
      Object.entries(given.filters).every(([name, limits]) => isMetric(name) && limits.length === 2 && limits.every(isLimit)) &&
      (given.sort === null || (isMetric(given.sort[0]) && typeof given.sort[1] === "boolean")) &&
      given.shortlist.every((cell) => cells.has(cell));
    return good ? withFullLock({ ...view, ...given }, axes) : view;
  } catch {
    return view;
  }
}

/** Let every column of a table sort its rows: numbers as numbers, empty cells last; a second click turns it round. */
function makeSortable(table) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const keys = (cell) => {
    const text = cell.dataset.value ?? cell.textContent;
    return text === "" ? null : Number.isNaN(Number(text)) ? text : Number(text);
  };
  heads.forEach((head, column) => {
    const sort = button(`Sort by ${head.textContent}`, head.textContent, () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].map((row) => [keys(row.cells[column]), row]);
      const order = ([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
        return (up ? 1 : -1) * (typeof a === "number" ? a - b : a.localeCompare(b));
      };
      body.append(...rows.sort(order).map(([, row]) => row));
    });
    head.replaceChildren(sort);
  });
}

function startReport(data) {
  const root = document.getElementById("viewer");
  const media = new FileMedia(data);
  const viewer = createViewer(root, {
    table: unpackTable(data.table),
    axes: data.table.axes,
    metrics: data.table.facts,
    clip: data.table.clip,
    view: viewFromAddress(data.view, data.table),
    progress: data.progress,
    media,
    onview: (view) => history.replaceState(null, "", `#${encodeURIComponent(JSON.stringify(view))}`),
  });
  const table = document.getElementById("cells-table");
  if (table) makeSortable(table);
  table?.addEventListener("click", (event) => {
    const cell = event.target.closest("button[data-cell]")?.dataset.cell;
    if (!cell) return;
    viewer.update({ selected: cell });
    root.scrollIntoView({ block: "start" });
    root.querySelector(".svdlab-panel-title")?.focus({ preventScroll: true });
  });
  return viewer;
}

export default startReport(JSON.parse(document.getElementById("report-data").textContent));
