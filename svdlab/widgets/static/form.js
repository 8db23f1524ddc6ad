// The form: a model, and one row a setting. Python says what the values are; what is typed here is asked for, and
// stands as typed, with the reason below it, where it is refused.

class Form {
  constructor(model, el, signal) {
    Object.assign(this, { model, signal, rows: new Map() });
    this.choice = element("select", { id: newId(), class: "svdlab-box" });
    listen(this.choice, "change", () => this.#ask({ kind: "model", name: this.choice.value }), signal);
    this.body = element("div", { class: "svdlab-form" });
    el.append(this.body);
    follow(model, ["fields"], () => this.#build());
    follow(model, ["models", "model", "busy"], () => this.#showModel());
    follow(model, ["values", "refused"], () => this.#showValues());
    follow(model, ["locked"], () => this.#showLock());
  }

  #ask(message) {
    this.model.send(message);
  }

  #build() {
    const opened = this.more?.open ?? false;
    this.rows.clear();
    this.modelProblem = line("alert", "problem");
    const about = { class: "svdlab-field svdlab-wide" };
    const chosen = element("div", about, caption(this.choice, "model"), this.choice, this.modelProblem);
    const fields = this.model.get("fields");
    const shown = fields.filter(({ folded }) => !folded).map((field) => this.#row(field));
    const folded = fields.filter((field) => field.folded).map((field) => this.#row(field));
    const reset = button("Give every setting back to the model", "Back to the model's own", () => this.#ask({ kind: "reset" }));
    this.more = element("details", { class: "svdlab-more" }, element("summary", {}, "More settings"), ...folded, reset);
    this.more.open = opened;
    this.body.replaceChildren(chosen, ...shown, this.more);
    this.#showValues();
    this.#showLock();
  }

  #row(field) {
    const row = { field, problem: line("alert", "problem") };
    const send = (value) => this.#ask({ kind: "set", name: field.name, value });
    row.box = field.kind === "choice" ? this.#chooser(field, send) : this.#box(field, send);
    row.box.id = newId();
    row.problem.id = newId();
    row.box.setAttribute("aria-describedby", row.problem.id);
    row.slider = field.slider ? this.#slider(row, send) : null;
    const extra = field.kind === "seed" ? this.#seedButtons() : [];
    const kind = { seed: " svdlab-seed", choice: " svdlab-wide" }[field.kind] ?? "";
    const before = kind ? [] : [row.slider ?? element("span")];
    const parts = [caption(row.box, field.name), ...before, row.box, ...extra, row.problem];
    row.node = element("div", { class: `svdlab-field${kind}` }, ...parts);
    this.rows.set(field.name, row);
    return row.node;
  }

  #box(field, send) {
    const about = field.kind === "seed" ? { type: "text", inputmode: "numeric" } : { type: "number", step: field.step };
    const node = element("input", { class: "svdlab-box", title: field.hint, autocomplete: "off", ...about });
    // An empty box gives the setting back to the model. A seed has more digits than this language's numbers.
    const read = () => (node.value.trim() === "" ? null : field.kind === "seed" ? node.value.trim() : node.valueAsNumber);
    listen(node, "change", () => (node.validity.badInput ? send(node.value) : send(read())), this.signal);
    return node;
  }

  #chooser(field, send) {
    const node = element("select", { class: "svdlab-box", title: field.hint });
    node.append(...field.choices.map((choice) => element("option", { value: choice }, choice)));
    listen(node, "change", () => send(node.value), this.signal);
    return node;
  }

  #slider(row, send) {
    const [min, max, step] = row.field.slider;
    const about = { min, max, step };
    const node = slider(`${row.field.name}, slider`, about, (value) => (row.box.value = value));
    listen(node, "change", () => send(Number(node.value)), this.signal);
    return node;
  }

  #seedButtons() {
    const dice = button("Draw a new seed", "New", () => this.#ask({ kind: "dice" }));
    this.lock = element("input", { type: "checkbox" });
    listen(this.lock, "change", () => this.#ask({ kind: "lock", locked: this.lock.checked }), this.signal);
    const lock = element("label", { class: "svdlab-check", title: "Use this seed for every clip" }, this.lock, "Lock");
    return [dice, lock];
  }

  #showModel() {
    setChoices(this.choice, this.model.get("models"));
    this.choice.value = this.model.get("model");
    this.choice.disabled = this.model.get("busy");
  }

  #showValues() {
    const [values, refused] = [this.model.get("values"), this.model.get("refused")];
    this.modelProblem.say(refused.model ?? "");
    if (refused.model) this.choice.value = this.model.get("model");
    for (const [name, row] of this.rows) {
      const problem = refused[name] ?? "";
      row.problem.say(problem);
      row.box.toggleAttribute("aria-invalid", Boolean(problem));
      if (problem || values[name] === undefined) continue;
      row.box.value = values[name];
      if (row.slider) row.slider.value = values[name];
    }
  }

  #showLock() {
    if (this.lock) this.lock.checked = this.model.get("locked");
  }
}

/** The visible name of a control. */
function caption(control, text) {
  return element("label", { for: control.id, class: "svdlab-caption" }, text);
}

export default definePart(Form);
