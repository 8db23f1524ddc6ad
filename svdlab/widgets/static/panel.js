// The selected cell: its clip, large, its settings, its metrics with units, why it failed, and the code that makes it.

class CellPanel {
  /** `actions`: star(cell), select(cell), close(). */
  constructor({ media, clock, clipOf, metrics, actions }) {
    Object.assign(this, { media, clock, clipOf, metrics, actions });
    this.title = element("h3", { class: "svdlab-panel-title", tabindex: "-1" });
    this.star = button("Shortlist this cell", "", () => this.actions.star(this.row.cell));
    this.close = button("Close", "×", () => this.actions.close());
    this.siblings = dropDown([], (cell) => this.actions.select(cell));
    this.siblings.setAttribute("aria-label", "Cells in this tile");
    this.stage = element("div", { class: "svdlab-panel-stage" });
    this.error = element("pre", { class: "svdlab-panel-error", tabindex: "0", "aria-label": "error" });
    this.facts = element("div", {});
    this.code = element("pre", { class: "svdlab-panel-code", tabindex: "0", "aria-label": "code that makes this clip" });
    this.copy = button("Copy code", "Copy code", () => this.#copy());
    this.said = element("span", { class: "svdlab-said", role: "status" });
    const head = element("div", { class: "svdlab-panel-head" }, this.title, this.star, this.close);
    const tools = element("div", { class: "svdlab-row" }, this.copy, this.said);
    this.node = element(
      "aside",
      { class: "svdlab-panel", "aria-label": "selected cell", hidden: true },
      ...[head, this.siblings, this.stage, tools, this.error, this.facts, this.code],
    );
    this.node.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      this.actions.close();
    });
    this.row = null;
    this.video = null;
  }

  /** Show a row of the table, or nothing (null). */
  update(row, { axes, siblings, starred }) {
    this.node.hidden = row === null;
    const before = this.row;
    this.row = row;
    if (row === null) return this.#drop();
    const varied = Object.keys(axes).filter((name) => axes[name].length > 1);
    this.title.textContent = varied.map((name) => `${name} ${row.settings[name]}`).join(", ") || row.cell;
    this.star.textContent = starred ? "★" : "☆";
    this.star.setAttribute("aria-pressed", String(starred));
    this.siblings.hidden = siblings.length < 2;
    const differs = (name) => new Set(siblings.map((one) => one.settings[name])).size > 1;
    const words = (one) => varied.filter(differs).map((name) => `${name} ${one.settings[name]}`).join(", ");
    setChoices(this.siblings, siblings.map((one) => [one.cell, words(one)]));
    this.siblings.value = row.cell;
    this.error.hidden = !row.error;
    this.error.textContent = row.error ?? "";
    this.#tables(row);
    if (before?.cell !== row.cell || before.status !== row.status) {
      this.said.textContent = "";
      this.#showCode(row.cell);
      this.#showClip(row);
    }
  }

  focus() {
    this.title.focus();
  }

  dispose() {
    this.#drop();
  }

  #tables(row) {
    const lines = (entries) => entries.map(([name, ...cells]) => factLine(name, cells));
    const settings = Object.entries(row.settings).map(([name, value]) => [name, null, String(value)]);
    const arrows = { higher: "higher is better", lower: "lower is better" };
    const metrics = Object.keys(this.metrics)
      .filter((name) => (row.metrics[name] ?? null) !== null)
      .map((name) => {
        const { unit, direction, title } = this.metrics[name];
        return [name, shortNumber(row.metrics[name]), unit ?? "", arrows[direction] ?? "", title];
      });
    const status = row.status === "done" ? [] : [["status", null, row.status]];
    this.facts.replaceChildren(
      factTable("Settings", [...lines([...status, ...settings])]),
      ...(metrics.length ? [factTable("Metrics", lines(metrics))] : []),
      element("p", { class: "svdlab-key" }, "cell ", element("code", {}, row.cell)),
    );
  }

  async #showClip(row) {
    this.#drop();
    this.stage.hidden = row.status !== "done";
    if (row.status !== "done") return;
    const video = element("video", { muted: true, playsinline: true, preload: "auto", "aria-label": "selected clip" });
    const image = element("img", { alt: "middle frame of the selected clip" });
    this.video = video;
    this.stage.replaceChildren(image, video);
    video.hidden = true;
    video.addEventListener("loadeddata", () => {
      markPixelated(video, video.videoHeight);
      video.hidden = false;
      image.remove();
    });
    image.addEventListener("load", () => markPixelated(image, image.naturalHeight));
    try {
      this.media.thumb(row.cell).then((url) => (image.src = url), () => image.remove());
      const url = await this.media.video(row.cell);
      if (this.video !== video) return;
      this.clock.add(video, this.clipOf(row.cell));
      video.src = url;
    } catch (error) {
      if (this.video === video) this.stage.replaceChildren(element("p", { class: "svdlab-problem" }, String(error.message ?? error)));
    }
  }

  async #showCode(cell) {
    this.code.textContent = "";
    let text;
    try {
      text = await this.media.code(cell);
    } catch (error) {
      text = `# ${error.message ?? error}`;
    }
    if (this.row?.cell === cell) this.code.textContent = text;
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.code.textContent);
      this.said.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(this.code); // a page without the right to the clipboard, such as one from disk
      this.said.textContent = "selected: press Ctrl+C";
    }
  }

  #drop() {
    if (this.video) this.clock.remove(this.video);
    this.video = null;
    this.stage.replaceChildren();
  }
}

function factTable(caption, lines) {
  return element("table", { class: "svdlab-facts" }, element("caption", {}, caption), element("tbody", {}, ...lines));
}

/** `number` stands right, what follows it left; a setting (number null) takes both columns. */
function factLine(name, [number, text, note = "", title = null]) {
  const words = [text, note].filter(Boolean).join(", ");
  const cells =
    number === null
      ? [element("td", { colspan: 2 }, words)]
      : [element("td", { class: "svdlab-number" }, number), element("td", { class: "svdlab-unit" }, words)];
  return element("tr", {}, element("th", { scope: "row", title }, name), ...cells);
}
