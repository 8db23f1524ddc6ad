// Code to take along: visible, and copied where the browser allows it.

class CodeBox {
  constructor(model, el, signal) {
    this.model = model;
    this.title = element("span", { class: "svdlab-title" });
    this.code = element("pre", { class: "svdlab-code", tabindex: 0, role: "region", "aria-label": "Code" });
    this.said = element("span", { role: "status" });
    const copy = button("Copy the code", "Copy", () => this.#copy());
    const close = button("Close the code", "Close", () => model.send({ kind: "close" }));
    this.root = element("div", { class: "svdlab-codebox" });
    this.root.append(element("div", { class: "svdlab-row" }, this.title, copy, close, this.said), this.code);
    el.append(this.root);
    follow(model, ["code", "title"], () => this.#show());
    listen(el, "keydown", (event) => event.key === "Escape" && model.send({ kind: "close" }), signal);
  }

  #show() {
    this.root.hidden = !this.model.get("code");
    this.title.textContent = this.model.get("title");
    this.code.textContent = this.model.get("code");
    this.said.textContent = "";
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.model.get("code"));
      this.said.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(this.code); // not allowed here: one key is left to press
      this.said.textContent = "selected; press Ctrl+C";
    }
  }
}

export default definePart(CodeBox);
