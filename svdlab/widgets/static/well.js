// The picture: dropped, chosen from the disk, an example, or given by path or address; shown as the model sees it.

const WELL_PART = 4 * 2 ** 20; // bytes a message; a notebook server refuses messages of more than 10 MiB
const WELL_EXAMPLE = "choose";

class Well {
  #uploads = 0;

  constructor(model, el, signal) {
    Object.assign(this, { model, signal });
    this.image = element("img", { alt: "", class: "svdlab-seen" });
    this.invitation = element("span", {}, "Drop a picture here, or press to choose one");
    const name = "Choose a picture, or drop one here";
    const about = { type: "button", class: "svdlab-drop", "aria-label": name, title: name };
    this.drop = element("button", about, this.image, this.invitation);
    this.file = element("input", { type: "file", accept: "image/*", hidden: true, "aria-label": "Picture file", tabindex: -1 });
    this.caption = element("p", { class: "svdlab-line svdlab-words" });
    this.problem = line("alert", "problem");
    el.append(element("div", { class: "svdlab-well" }, this.drop, this.file, this.#sources()));
    this.#listen();
    follow(model, ["thumb", "caption"], () => this.#showPicture());
    follow(model, ["problem"], () => this.problem.say(model.get("problem")));
    follow(model, ["examples"], () => this.#showExamples());
  }

  #sources() {
    this.example = element("select", { class: "svdlab-box", id: newId() });
    this.address = element("input", { type: "text", class: "svdlab-box", id: newId(), autocomplete: "off", spellcheck: "false" });
    const use = button("Use this path or address", "Use", () => this.#useAddress());
    const rows = [
      element("label", { for: this.example.id }, "example"),
      this.example,
      element("label", { for: this.address.id }, "path or URL"),
      element("span", { class: "svdlab-join" }, this.address, use),
    ];
    return element("div", { class: "svdlab-sources" }, ...rows, this.caption, this.problem);
  }

  #listen() {
    const on = (target, kind, callback) => listen(target, kind, callback, this.signal);
    on(this.drop, "click", () => this.file.click());
    on(this.file, "change", () => {
      this.#send(this.file.files[0]);
      this.file.value = ""; // the same file again is a choice too
    });
    on(this.example, "change", () => {
      if (this.example.value !== WELL_EXAMPLE) this.model.send({ kind: "example", name: this.example.value });
      this.example.value = WELL_EXAMPLE;
    });
    on(this.address, "keydown", (event) => event.key === "Enter" && this.#useAddress());
    for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
      on(this.drop, kind, (event) => {
        event.preventDefault();
        event.stopPropagation();
        this.drop.classList.toggle("svdlab-over", kind === "dragenter" || kind === "dragover");
      });
    }
    on(this.drop, "drop", ({ dataTransfer }) => this.#dropped(dataTransfer));
  }

  #useAddress() {
    if (this.address.value.trim()) this.model.send({ kind: "source", text: this.address.value.trim() });
  }

  #dropped(data) {
    const text = data.getData("text/uri-list") || data.getData("text/plain");
    if (data.files.length) this.#send(data.files[0]);
    else if (text) this.model.send({ kind: "source", text: text.split("\n")[0].trim() });
  }

  async #send(file) {
    if (!file) return;
    if (file.size > this.model.get("max_bytes")) {
      this.problem.say(`${file.name} is larger than the ${this.model.get("max_bytes")} bytes that are allowed. Save a smaller copy.`);
      return;
    }
    this.problem.say("");
    const id = `${newId()}-${(this.#uploads += 1)}`;
    const count = Math.max(1, Math.ceil(file.size / WELL_PART));
    for (let index = 0; index < count; index += 1) {
      const bytes = await file.slice(index * WELL_PART, (index + 1) * WELL_PART).arrayBuffer();
      this.model.send({ kind: "upload", id, name: file.name, index, count }, undefined, [bytes]);
    }
  }

  #showPicture() {
    const caption = this.model.get("caption");
    showPicture(this.image, this.model.get("thumb"), "image/png", this.signal);
    this.image.alt = caption ? `The picture as the model sees it: ${caption}` : "";
    this.invitation.hidden = !this.image.hidden;
    this.caption.textContent = caption;
  }

  #showExamples() {
    setChoices(this.example, [[WELL_EXAMPLE, "choose one"], ...this.model.get("examples").map((name) => [name, name])]);
  }
}

export default definePart(Well);
