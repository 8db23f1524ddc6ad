// The tiles of a view as a table with row and column headers that stay in sight, or as a list that wraps.
//
// Only tiles in sight ask for media; videos only while they are wanted, and only so many at once.

const GRID_VIDEOS = 36; // at once; the tiles after these show their thumbnails

class TileGrid {
  #tiles = []; // GridTile[row][column]
  #visible = new Set();
  #observer;
  #shape = "";
  #moving = false;

  /** `actions`: select(cell), open(), star(cell), toggle(), clear(); `clipOf(cell)` gives {frames, fps}. */
  constructor({ media, clock, clipOf, actions }) {
    Object.assign(this, { media, clock, clipOf, actions });
    this.node = element("div", { class: "svdlab-grid" });
    this.#observer = new IntersectionObserver((entries) => this.#onSight(entries), { rootMargin: "80px" });
    this.node.addEventListener("keydown", (event) => this.#onKey(event));
    this.node.addEventListener("click", (event) => this.#onClick(event));
    this.node.addEventListener("focusin", (event) => this.#onFocus(event));
  }

  /** Draw an arrangement (see arrange.js); nodes are kept where the headers are the same as before. */
  update(arrangement, { view, range, selected, starred }) {
    this.arrangement = arrangement;
    const shape = JSON.stringify([arrangement.rows, arrangement.columns, arrangement.captions]);
    if (shape !== this.#shape) this.#build(arrangement);
    this.#shape = shape;
    this.node.dataset.show = view.show === "shortlist" ? "both" : view.show;
    this.#tiles.forEach((row, r) =>
      row.forEach((tile, c) => {
        const data = arrangement.tiles[r][c];
        const caption = arrangement.captions ? arrangement.captions[c] : [...arrangement.rows[r], ...arrangement.columns[c]];
        tile.update(data, {
          where: headerLabel(caption),
          heat: range && data.value !== null ? heatColour(data.value, range) : null,
          starred: starred.has(data.cell),
          selected: data.cell !== null && data.cells.includes(selected),
          metric: view.metric,
        });
      }),
    );
    if (!this.node.querySelector('.svdlab-cell[tabindex="0"]')) this.#entry()?.setAttribute("tabindex", "0");
    this.#load();
  }

  /** Videos are wanted (true), or thumbnails are enough. */
  setMoving(moving) {
    this.#moving = moving;
    this.#load();
  }

  /** Focus the tile of a cell, or the one that the keyboard was on. */
  focus(cell = null) {
    const found = cell && this.#all().find((tile) => tile.tile.cells.includes(cell));
    (found?.node ?? this.#entry())?.focus();
  }

  dispose() {
    this.#observer.disconnect();
    for (const tile of this.#all()) tile.dispose();
  }

  #all() {
    return this.#tiles.flat();
  }

  #entry() {
    return this.node.querySelector('.svdlab-cell[tabindex="0"]') ?? this.#all()[0]?.node;
  }

  #build(arrangement) {
    for (const tile of this.#all()) tile.dispose();
    this.#observer.disconnect();
    this.#visible.clear();
    const role = arrangement.captions ? "option" : "gridcell";
    this.#tiles = arrangement.tiles.map((row) => row.map((_, c) => new GridTile(role, arrangement.captions?.[c])));
    this.node.replaceChildren(arrangement.captions ? this.#list(arrangement) : this.#table(arrangement));
    requestAnimationFrame(() => {
      const outer = this.node.querySelector('tbody th[data-level="0"]'); // the inner row headers stick beside it
      this.node.style.setProperty("--svdlab-outer", `${outer?.getBoundingClientRect().width ?? 0}px`);
    });
    for (const tile of this.#all()) {
      tile.node.svdlabTile = tile;
      this.#observer.observe(tile.node);
    }
  }

  #list(arrangement) {
    if (!arrangement.captions.length) return element("p", { class: "svdlab-empty" }, "Nothing to show here yet.");
    return element("div", { class: "svdlab-list", role: "listbox", "aria-label": "cells" }, ...this.#tiles[0].map((t) => t.node));
  }

  #table({ rows, columns }) {
    const head = headerRows(columns, rows[0].length).map((cells) => element("tr", { role: "row" }, ...cells));
    corner(head, rows[0], columns[0]);
    const spans = rowSpans(rows);
    const body = this.#tiles.map((tiles, r) =>
      element("tr", { role: "row" }, ...rowHeaders(rows[r], spans[r]), ...tiles.map((tile) => tile.node)),
    );
    const parts = [element("thead", { role: "rowgroup" }, ...head), element("tbody", { role: "rowgroup" }, ...body)];
    return element("table", { role: "grid", "aria-label": "cells" }, ...parts);
  }

  #onSight(entries) {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) this.#visible.add(target.svdlabTile);
      else this.#visible.delete(target.svdlabTile);
    }
    this.#load();
  }

  #load() {
    if (this.node.dataset.show === "heat") {
      for (const tile of this.#all()) tile.dropVideo();
      return;
    }
    let videos = 0;
    for (const tile of this.#all()) {
      const seen = this.#visible.has(tile);
      if (seen) tile.showThumb(this.media);
      const wanted = seen && this.#moving && tile.tile.status === "done" && videos < GRID_VIDEOS;
      if (!wanted) tile.dropVideo();
      else {
        videos += 1;
        tile.showVideo(this.media, this.clock, this.clipOf(tile.cell));
      }
    }
  }

  #onClick(event) {
    const tile = event.target.closest(".svdlab-cell")?.svdlabTile;
    if (!tile) return;
    tile.node.focus();
    if (tile.cell) this.actions.select(tile.cell);
  }

  #onFocus(event) {
    const node = event.target.closest(".svdlab-cell");
    if (!node) return;
    this.node.querySelector('.svdlab-cell[tabindex="0"]')?.setAttribute("tabindex", "-1");
    node.setAttribute("tabindex", "0");
  }

  #onKey(event) {
    const tile = event.target.closest(".svdlab-cell")?.svdlabTile;
    if (!tile || event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    const act = {
      Enter: () => tile.cell && this.actions.open(tile.cell),
      " ": () => this.actions.toggle(),
      s: () => tile.cell && this.actions.star(tile.cell),
      Escape: () => this.actions.clear(),
      Home: () => this.#go(tile, 0, -Infinity),
      End: () => this.#go(tile, 0, Infinity),
    };
    const action = moves[event.key] ? () => this.#go(tile, ...moves[event.key]) : act[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  /** Walk from a tile; what is walked to is selected. */
  #go(tile, down, right) {
    let r = this.#tiles.findIndex((row) => row.includes(tile));
    let c = this.#tiles[r].indexOf(tile);
    if (this.arrangement.captions) {
      right += down * this.#perLine();
      down = 0;
    }
    const clamp = (at, length) => Math.min(Math.max(at, 0), length - 1);
    if (this.arrangement.captions && Math.abs(right) > 1 && Number.isFinite(right)) {
      if (c + right < 0 || c + right >= this.#tiles[r].length) return; // no such line
    }
    r = clamp(r + down, this.#tiles.length);
    c = clamp(c + right, this.#tiles[r].length);
    const next = this.#tiles[r][c];
    next.node.focus();
    if (next.cell && next !== tile) this.actions.select(next.cell);
  }

  #perLine() {
    const tops = this.#tiles[0].map((tile) => tile.node.offsetTop);
    const line = tops.findIndex((top) => top !== tops[0]);
    return line < 0 ? tops.length : line;
  }
}

/** Header cells of each header row, the super-axis above; `lead` is the number of columns of row headers. */
function headerRows(columns, lead) {
  const levels = columns[0].length;
  const rows = [];
  for (let level = 0; level < levels; level += 1) {
    const cells = [];
    columns.forEach((header, c) => {
      const [name, value] = header[level];
      const first = c === 0 || header.slice(0, level + 1).some(([, one], k) => one !== columns[c - 1][k][1]);
      if (first) {
        const label = headerLabel(header.slice(0, level + 1));
        const cell = element("th", { scope: "col", role: "columnheader", "aria-label": label, title: label });
        cell.append(levels > 1 && level === 0 ? `${name} ${value}` : String(value));
        cell.colSpan = 1;
        cell.dataset.level = level;
        cells.push(cell);
      } else cells.at(-1).colSpan += 1;
    });
    rows.push(cells);
  }
  if (!rows.length && lead) rows.push([element("th", { role: "columnheader", "aria-label": "cells" })]);
  return rows;
}

/** The upper left corner names the axes. */
function corner(head, row, column) {
  if (!head.length || !row.length) {
    if (head.length && column.length) head.at(-1).firstChild.prepend(element("span", { class: "svdlab-axis" }, `${column.at(-1)[0]} `));
    return;
  }
  const words = [];
  if (column.length) words.push(element("div", { class: "svdlab-axis-right" }, `${column.at(-1)[0]} →`));
  words.push(element("div", { class: "svdlab-axis-down" }, `${row.at(-1)[0]} ↓`));
  const node = element("td", { class: "svdlab-corner", role: "none", colspan: row.length, rowspan: head.length }, ...words);
  head[0].prepend(node);
}

/** For each row and level: how many rows its header spans from here, or 0 where one above spans it. */
function rowSpans(rows) {
  const spans = rows.map((header) => header.map(() => 0));
  rows[0].forEach((_, level) => {
    let start = 0;
    rows.forEach((header, r) => {
      const first = r === 0 || header.slice(0, level + 1).some(([, one], k) => one !== rows[r - 1][k][1]);
      if (first) start = r;
      spans[start][level] += 1;
    });
  });
  return spans;
}

function rowHeaders(header, spans) {
  return header.flatMap(([name, value], level) => {
    if (!spans[level]) return [];
    const label = headerLabel(header.slice(0, level + 1));
    const cell = element("th", { scope: "row", role: "rowheader", "aria-label": label, title: label });
    cell.append(header.length > 1 && level === 0 ? `${name} ${value}` : String(value));
    cell.rowSpan = spans[level];
    cell.dataset.level = level;
    return [cell];
  });
}
