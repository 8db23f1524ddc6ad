// A plain table, which may be folded away under its caption.

class Table {
  constructor(model, el, signal) {
    this.model = model;
    this.caption = element(model.get("folds") ? "summary" : "p", { class: "svdlab-line svdlab-words", id: newId() });
    this.table = element("table", { class: "svdlab-table", "aria-labelledby": this.caption.id });
    this.root = element(model.get("folds") ? "details" : "div", {}, this.caption);
    this.root.append(element("div", { class: "svdlab-scroll" }, this.table));
    el.append(this.root);
    follow(model, ["unfolded"], () => (this.root.open = model.get("unfolded")));
    follow(model, ["head", "rows", "text", "caption"], () => this.#show());
  }

  #show() {
    const [head, rows, text] = ["head", "rows", "text"].map((name) => this.model.get(name));
    const kind = (column) => ({ class: text.includes(column) ? "svdlab-text" : null });
    const titles = head.map((title, column) => element("th", { scope: "col", ...kind(column) }, title));
    const cell = (value, column) =>
      head.length === 0 && column === 0
        ? element("th", { scope: "row", ...kind(column) }, value)
        : element("td", kind(column), value);
    this.caption.textContent = this.model.get("caption");
    this.root.hidden = rows.length === 0;
    this.table.replaceChildren(
      element("thead", {}, element("tr", {}, ...titles)),
      element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell)))),
    );
  }
}

export default definePart(Table);
