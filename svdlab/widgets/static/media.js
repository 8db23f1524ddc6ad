// What tiles show: thumbnails, videos and code, asked for once, kept while they are used, and no longer than needed.

/** A map of so many entries; the one that was used longest ago goes first. */
class Recent {
  #entries = new Map();

  constructor(limit, release = () => {}) {
    this.limit = limit;
    this.release = release;
  }

  get(key) {
    const value = this.#entries.get(key);
    if (value === undefined) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, value);
    return value;
  }

  set(key, value) {
    this.delete(key);
    this.#entries.set(key, value);
    if (this.#entries.size > this.limit) this.delete(this.#entries.keys().next().value);
  }

  delete(key) {
    const value = this.#entries.get(key);
    if (value === undefined) return;
    this.#entries.delete(key);
    this.release(value);
  }

  clear() {
    for (const key of [...this.#entries.keys()]) this.delete(key);
  }
}

/** A source {thumb, video, code: (cell) -> url or text, or a promise of it} with memory; failures are asked for again. */
class MediaCache {
  constructor(source, { thumbs = 600, videos = 60 } = {}) {
    this.source = source;
    const revoke = (promise) => promise.then(revokeBlob, () => {});
    this.kept = { thumb: new Recent(thumbs, revoke), video: new Recent(videos, revoke), code: new Recent(200) };
  }

  thumb(cell) {
    return this.#get("thumb", cell);
  }

  video(cell) {
    return this.#get("video", cell);
  }

  code(cell) {
    return this.#get("code", cell);
  }

  dispose() {
    for (const kept of Object.values(this.kept)) kept.clear();
  }

  #get(what, cell) {
    const kept = this.kept[what];
    const known = kept.get(cell);
    if (known) return known;
    const promise = Promise.resolve().then(() => this.source[what](cell));
    kept.set(cell, promise);
    promise.catch(() => kept.delete(cell));
    return promise;
  }
}

// What is shown at this moment keeps its data, although its address is no longer good for anything new.
function revokeBlob(url) {
  if (typeof url === "string" && url.startsWith("blob:")) URL.revokeObjectURL(url);
}
