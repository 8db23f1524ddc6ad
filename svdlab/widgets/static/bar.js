// The controls above the tiles: which axes, what is locked, what is shown, filters and order.

const PLACE_NAMES = { x: "X", y: "Y", super_x: "Super-X", super_y: "Super-Y" };
const SHOW_NAMES = { grid: "clips", heat: "numbers", both: "clips and numbers", shortlist: "shortlist" };

class ViewBar {
  /** `change(view)` is told what the person wants; `axes` and `metrics` as for createViewer. */
  constructor({ axes, metrics, change }) {
    Object.assign(this, { axes, metrics, change });
    this.places = Object.fromEntries(PLACES.map((place) => [place, dropDown([], (name) => this.#place(place, name))]));
    this.swap = button("Swap X and Y", "⇄", () => this.#swap());
    this.locks = element("span", { class: "svdlab-row svdlab-locks" });
    this.show = dropDown(Object.entries(SHOW_NAMES), (show) => this.change({ ...this.view, show }));
    this.metric = dropDown([], (metric) => this.change({ ...this.view, metric: metric || null }));
    this.order = dropDown([], (order) => this.change({ ...this.view, sort: order ? JSON.parse(order) : null }));
    this.filters = new FilterRow((filters) => this.change({ ...this.view, filters }));
    const placing = element("div", { class: "svdlab-row", role: "group", "aria-label": "axes" });
    for (const place of PLACES) {
      placing.append(labelled(PLACE_NAMES[place], this.places[place]));
      if (place === "x") placing.append(this.swap);
    }
    placing.append(this.locks);
    const showing = element("div", { class: "svdlab-row", role: "group", "aria-label": "content" });
    showing.append(labelled("Show", this.show), labelled("Metric", this.metric), labelled("Order", this.order));
    showing.append(this.filters.node);
    this.node = element("div", { class: "svdlab-bar" }, placing, showing);
    this.setTable(axes, metrics);
  }

  /** Axes and metrics have changed. */
  setTable(axes, metrics) {
    Object.assign(this, { axes, metrics });
    for (const place of PLACES) setChoices(this.places[place], [["", "none"], ...Object.keys(axes).map((name) => [name, name])]);
    const names = Object.keys(metrics);
    setChoices(this.metric, names.length ? names.map((name) => [name, name]) : [["", "none"]]);
    const orders = names.flatMap((name) => [
      [JSON.stringify([name, false]), `${name}, highest first`],
      [JSON.stringify([name, true]), `${name}, lowest first`],
    ]);
    setChoices(this.order, [["", "grid"], ...orders]);
    this.filters.setMetrics(names);
    this.#buildLocks();
  }

  /** Show a view; `passing` of `count` cells pass its filters. */
  update(view, { passing, count }) {
    const before = this.view;
    this.view = view;
    for (const place of PLACES) this.places[place].value = view[place] ?? "";
    if (!before || otherAxes(before, this.axes).join() !== otherAxes(view, this.axes).join()) this.#buildLocks();
    for (const [name, node] of this.lockNodes) node.value = lockText(view.lock[name]);
    this.show.value = view.show;
    this.metric.value = view.metric ?? "";
    this.order.value = view.sort ? JSON.stringify(view.sort) : "";
    const listed = view.sort !== null || view.show === "shortlist";
    for (const node of [...Object.values(this.places), this.swap]) node.disabled = listed && node !== null;
    this.show.options[3].textContent = `shortlist (${view.shortlist.length})`;
    this.filters.update(view.filters, passing, count);
  }

  #buildLocks() {
    const names = this.view ? otherAxes(this.view, this.axes) : [];
    this.lockNodes = names.map((name) => {
      const choices = this.axes[name].map((value) => [lockText(value), String(value)]);
      if (choices.length > 1) choices.push([lockText(null), "all"]);
      return [name, dropDown(choices, (text) => this.change(lockAxis(this.view, this.axes, name, JSON.parse(text))))];
    });
    this.locks.replaceChildren(...this.lockNodes.map(([name, node]) => labelled(name, node)));
  }

  #place(place, name) {
    this.change(placeAxis(this.view, this.axes, place, name || null));
  }

  #swap() {
    const { x, y, super_x: superX, super_y: superY } = this.view;
    this.change({ ...this.view, x: y, y: x, super_x: superY, super_y: superX });
  }
}

function lockText(value) {
  return JSON.stringify(value ?? null);
}

/** Limits on metrics: one line to enter a limit, and those that hold as buttons that take them away. */
class FilterRow {
  constructor(change) {
    this.change = change;
    this.metric = dropDown([], () => this.#fillIn());
    this.low = numberBox("lowest value that passes", () => this.#enter());
    this.high = numberBox("highest value that passes", () => this.#enter());
    this.held = element("span", { class: "svdlab-row" });
    this.count = element("span", { class: "svdlab-said", role: "status" });
    const parts = [labelled("Filter", this.metric), this.low, "to", this.high, this.held, this.count];
    this.node = element("div", { class: "svdlab-row", role: "group", "aria-label": "filters" }, ...parts);
    this.filters = {};
  }

  setMetrics(names) {
    setChoices(this.metric, names.map((name) => [name, name]));
    this.node.hidden = !names.length;
  }

  update(filters, passing, count) {
    this.filters = filters;
    const held = Object.entries(filters).map(([name, [low, high]]) => {
      const words = [low === null ? "" : `${low} ≤ `, name, high === null ? "" : ` ≤ ${high}`].join("");
      const drop = () => {
        const { [name]: gone, ...rest } = this.filters;
        this.change(rest);
      };
      return button(`Remove the filter ${words}`, `${words} ×`, drop);
    });
    this.held.replaceChildren(...held);
    this.count.textContent = held.length ? `${passing} of ${count} cells pass` : "";
    if (!this.node.contains(document.activeElement)) this.#fillIn();
  }

  #fillIn() {
    const [low, high] = this.filters[this.metric.value] ?? [null, null];
    this.low.value = low ?? "";
    this.high.value = high ?? "";
  }

  #enter() {
    const read = (node) => (node.value === "" ? null : Number(node.value));
    const [low, high] = [read(this.low), read(this.high)];
    const wrong = (low !== null && high !== null && low > high) || !this.low.validity.valid || !this.high.validity.valid;
    for (const node of [this.low, this.high]) node.setAttribute("aria-invalid", String(wrong));
    if (wrong) {
      this.count.textContent = "the lowest value must not exceed the highest";
      return;
    }
    const { [this.metric.value]: gone, ...rest } = this.filters;
    this.change(low === null && high === null ? rest : { ...rest, [this.metric.value]: [low, high] });
  }
}

function numberBox(label, onChange) {
  const node = element("input", { type: "number", step: "any", class: "svdlab-box", "aria-label": label, placeholder: "any" });
  node.addEventListener("change", onChange);
  return node;
}
