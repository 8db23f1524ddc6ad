// The history: a strip of small pictures, one a clip, and what can be done with the one that is shown.

class Strip {
  constructor(model, el, signal) {
    Object.assign(this, { model, signal });
    this.list = element("ul", { class: "svdlab-strip", "aria-label": "Clips so far" });
    const act = (kind) => () => model.send({ kind, number: model.get("current") });
    this.pin = button("Keep this clip in the history", "Pin", act("pin"));
    this.compare = button("Compare this clip with the last one", "Compare with the last", act("compare"));
    this.code = button("Show the code that makes this clip", "Copy as code", act("code"));
    this.sweep = button("Show the code of a sweep around this clip", "Copy as sweep", act("sweep"));
    this.actions = element("div", { class: "svdlab-row" }, this.pin, this.compare, this.code, this.sweep);
    this.empty = element("p", { class: "svdlab-line svdlab-words" }, "No clip yet. Clips appear here.");
    el.append(element("div", { class: "svdlab-history" }, this.empty, this.list, this.actions));
    follow(model, ["items"], () => this.#build());
    follow(model, ["items", "current"], () => this.#showCurrent());
  }

  #build() {
    this.ending?.abort();
    this.ending = new AbortController();
    this.signal.addEventListener("abort", () => this.ending.abort(), { once: true });
    this.list.replaceChildren(...this.model.get("items").map((item) => element("li", {}, this.#item(item))));
    this.actions.hidden = this.list.hidden = this.model.get("items").length === 0;
    this.empty.hidden = !this.actions.hidden;
  }

  #item({ number, title, pinned, thumb }) {
    const image = element("img", { alt: "" });
    showPicture(image, thumb, "image/jpeg", this.ending.signal);
    const name = element("span", {}, `#${number}${pinned ? " pinned" : ""}`);
    const about = { type: "button", class: "svdlab-item", title, "data-number": number };
    const node = element("button", { ...about, "aria-label": `Clip ${number}${pinned ? ", pinned" : ""}: ${title}` }, image, name);
    listen(node, "click", () => this.model.send({ kind: "show", number }), this.ending.signal);
    return node;
  }

  #showCurrent() {
    const [items, current] = [this.model.get("items"), this.model.get("current")];
    for (const node of this.list.querySelectorAll("button")) {
      node.setAttribute("aria-pressed", String(Number(node.dataset.number) === current));
    }
    const item = items.find(({ number }) => number === current);
    const last = items.at(-1)?.number === current;
    this.pin.textContent = item?.pinned ? "Unpin" : "Pin";
    this.compare.textContent = last ? "Compare with the one before" : "Compare with the last";
    this.compare.setAttribute("aria-label", this.compare.textContent);
    this.compare.disabled = items.length < 2;
    for (const node of [this.pin, this.code, this.sweep]) node.disabled = !item;
    this.list.querySelector('[aria-pressed="true"]')?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
}

export default definePart(Strip);
