// The bar under which work is done: begin, end, how far it is, and what there is to say about it.

class Work {
  constructor(model, el, signal) {
    this.model = model;
    this.begin = element("button", { type: "button", class: "svdlab-button svdlab-main" });
    this.end = element("button", { type: "button", class: "svdlab-button" });
    listen(this.begin, "click", () => model.send({ kind: "begin" }), signal);
    listen(this.end, "click", () => model.send({ kind: "end" }), signal);
    this.progress = element("progress", { max: 1, "aria-label": "Progress" });
    this.words = line("status", "words");
    this.notes = line("status", "note");
    this.problem = line("alert", "problem");
    const row = element("div", { class: "svdlab-row" }, this.begin, this.end, this.progress);
    el.append(row, this.words, this.notes, this.problem);
    follow(model, ["begin", "end", "busy", "ending", "ready", "progress"], () => this.#showState());
    follow(model, ["words", "notes", "problem"], () => this.#showWords());
  }

  #showState() {
    const get = (name) => this.model.get(name);
    this.begin.textContent = get("begin");
    this.end.textContent = get("end");
    this.begin.disabled = get("busy") || !get("ready");
    this.end.disabled = !get("busy") || get("ending");
    this.progress.hidden = get("progress") === null;
    if (get("progress") < 0) this.progress.removeAttribute("value"); // under way, nobody knows how far
    else this.progress.value = get("progress") ?? 0;
  }

  #showWords() {
    this.words.say(this.model.get("words"));
    this.notes.say(this.model.get("notes").join("\n"));
    this.problem.say(this.model.get("problem"));
  }
}

export default definePart(Work);
