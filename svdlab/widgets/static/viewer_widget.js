// The sweep viewer in a notebook: table and view come as state of the model, media as messages with bytes.

/** Asks the kernel for media, many cells in one message, and gives each asker its own. */
class KernelMedia {
  #waiting = new Map(); // "what cell" -> {resolve, reject}
  #asked = { thumb: [], video: [], code: [] };
  #timer = 0;

  constructor(model) {
    this.model = model;
  }

  thumb(cell) {
    return this.#ask("thumb", cell);
  }

  video(cell) {
    return this.#ask("video", cell);
  }

  code(cell) {
    return this.#ask("code", cell);
  }

  /** Take an answer of the kernel: {what, cells, types, texts, errors}, buffers in the order of the cells. */
  receive({ what, cells, types = {}, texts = {}, errors = {} }, buffers) {
    let next = 0;
    for (const cell of cells) {
      const data = types[cell] ? buffers[next++] : null;
      const key = `${what} ${cell}`;
      const asker = this.#waiting.get(key);
      if (!asker) continue; // asked for by another view of the same model
      this.#waiting.delete(key);
      if (data) asker.resolve(URL.createObjectURL(new Blob([data], { type: types[cell] })));
      else if (cell in texts) asker.resolve(texts[cell]);
      else asker.reject(new Error(errors[cell] ?? "the kernel sent nothing"));
    }
  }

  #ask(what, cell) {
    return new Promise((resolve, reject) => {
      this.#waiting.set(`${what} ${cell}`, { resolve, reject });
      this.#asked[what].push(cell);
      this.#timer ||= setTimeout(() => this.#send(), 20);
    });
  }

  #send() {
    this.#timer = 0;
    for (const [what, cells] of Object.entries(this.#asked)) {
      const most = what === "video" ? 6 : 16; // a message; what is asked first comes first, and nothing waits for all
      for (let at = 0; at < cells.length; at += most) {
        this.model.send({ kind: "media", what, cells: cells.slice(at, at + most) });
      }
      this.#asked[what] = [];
    }
  }
}

/** What has been written, as the buttons need it. */
function exportAnswer({ text, error, type, name }, buffers) {
  if (error) throw new Error(error);
  const url = buffers.length ? URL.createObjectURL(new Blob([buffers[0]], { type })) : null;
  return { text, url, name };
}

export default {
  // Once for each model in a page, however many views it has: newer rows stay for views that open later.
  initialize({ model }) {
    model.on("msg:custom", (message) => {
      if (message.kind === "rows") mergeRows(model.get("_table"), message.rows);
    });
  },

  render({ model, el }) {
    const media = new KernelMedia(model);
    const exports = new Map();
    let poll = 0;
    const onexport = (request) =>
      new Promise((resolve, reject) => {
        const id = `${Date.now()}-${Math.random()}`;
        exports.set(id, { resolve, reject });
        model.send({ kind: "export", id, ...request });
      });
    const send = (name, value) => {
      model.set(name, value);
      model.save_changes();
    };
    const facts = () => ({
      table: unpackTable(model.get("_table")),
      axes: model.get("_table").axes,
      metrics: model.get("_table").facts,
      clip: model.get("_table").clip,
      progress: model.get("_progress"),
    });
    const viewer = createViewer(el, {
      ...facts(),
      view: model.get("_view"),
      selected: model.get("selected"),
      height: model.get("height"),
      media,
      exportPath: model.get("_export_path"),
      onview: (view) => send("_view", view),
      onselect: (cell) => send("selected", cell),
      onexport,
    });
    // The next question waits for the answer, so that a kernel which is busy for an hour is not asked a thousand times.
    const plan = () => {
      clearTimeout(poll);
      if (model.get("_progress").unfinished) {
        poll = setTimeout(() => model.send({ kind: "poll" }), model.get("refresh_seconds") * 1000);
      }
    };
    const onMessage = (message, buffers) => {
      if (message.kind === "media") media.receive(message, buffers);
      if (message.kind === "rows") onTable();
      if (message.kind === "polled") plan();
      if (message.kind === "export" && exports.has(message.id)) {
        const { resolve, reject } = exports.get(message.id);
        exports.delete(message.id);
        Promise.resolve().then(() => exportAnswer(message, buffers)).then(resolve, reject);
      }
    };
    const onView = () => viewer.update({ view: model.get("_view") });
    const onTable = () => viewer.update({ ...facts(), view: model.get("_view") });
    const onSelected = () => viewer.update({ selected: model.get("selected") });
    const onProgress = () => {
      viewer.update({ progress: model.get("_progress") });
      plan();
    };
    const heard = {
      "msg:custom": onMessage,
      "change:_view": onView,
      "change:_table": onTable,
      "change:selected": onSelected,
      "change:_progress": onProgress,
    };
    for (const [name, callback] of Object.entries(heard)) model.on(name, callback);
    plan();
    return () => {
      clearTimeout(poll);
      for (const [name, callback] of Object.entries(heard)) model.off(name, callback);
      viewer.dispose();
    };
  },
};
