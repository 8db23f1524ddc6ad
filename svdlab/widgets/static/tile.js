// One tile: a clip (its thumbnail, and a video over it once there is one), its number, or why there is nothing to see.

const TILE_WORDS = { missing: "no such cell", pending: "pending", skipped: "skipped", failed: "failed" };

class GridTile {
  /** `role`: gridcell or option; `caption`: a header, for tiles of a list. */
  constructor(role, caption = null) {
    this.image = element("img", { class: "svdlab-cell-image", alt: "", draggable: "false", hidden: true });
    this.words = element("div", { class: "svdlab-cell-words" });
    this.media = element("div", { class: "svdlab-cell-media" }, this.image, this.words);
    this.number = element("div", { class: "svdlab-cell-number svdlab-number" });
    this.star = element("span", { class: "svdlab-cell-star", "aria-hidden": "true", hidden: true }, "★");
    this.more = element("span", { class: "svdlab-cell-more", hidden: true });
    this.box = element("div", { class: "svdlab-cell-box" }, this.media, this.number, this.star, this.more);
    if (caption) {
      const lines = caption.map((one) => element("div", {}, headerLabel([one])));
      this.box.append(element("div", { class: "svdlab-cell-caption" }, ...lines));
    }
    this.node = element(role === "gridcell" ? "td" : "div", { class: "svdlab-cell", role, tabindex: "-1" }, this.box);
    this.cell = null;
    this.video = null;
    this.shown = null;
    this.broken = null; // why its files cannot be shown
  }

  /** Show what `tile` (see arrange.js) says; `where` is its place in words. */
  update(tile, { where, heat, starred, selected, metric }) {
    if (tile.cell !== this.cell) this.#forgetMedia();
    this.tile = tile;
    this.cell = tile.cell;
    const { node } = this;
    if (tile.cell) node.dataset.cell = tile.cell;
    else delete node.dataset.cell;
    node.dataset.status = tile.status;
    node.classList.toggle("svdlab-dimmed", tile.dimmed);
    node.classList.toggle("svdlab-selected", selected);
    node.setAttribute("aria-selected", String(selected));
    this.star.hidden = !starred;
    this.more.hidden = tile.cells.length < 2;
    this.more.textContent = `1 of ${tile.cells.length}`;
    this.more.title = `${tile.cells.length} cells belong here, since an axis shows all its values; this is the first`;
    const done = tile.status === "done";
    const why = tile.status === "failed" && tile.error ? tile.error.split("\n")[0] : "";
    if (!this.broken) this.#say(done ? "" : (TILE_WORDS[tile.status] ?? tile.status), why);
    const instead = done ? "–" : tile.status; // seen where numbers are shown alone
    this.number.textContent = tile.value === null ? instead : shortNumber(tile.value);
    this.number.style.background = heat?.fill ?? "";
    this.number.style.color = heat?.ink ?? "";
    this.number.title = tile.value === null ? "" : `${metric} = ${tile.value}`;
    const parts = [where, done ? "" : (TILE_WORDS[tile.status] ?? tile.status), why];
    if (tile.value !== null) parts.push(`${metric} ${shortNumber(tile.value)}`);
    if (tile.cells.length > 1) parts.push(`one of ${tile.cells.length} cells`);
    if (tile.dimmed) parts.push("filtered out");
    if (starred) parts.push("shortlisted");
    node.setAttribute("aria-label", parts.filter(Boolean).join(", "));
  }

  /** Put the thumbnail in, once. */
  async showThumb(media) {
    const { cell } = this;
    if (!cell || this.tile.status !== "done" || this.shown === cell || this.broken) return;
    this.shown = cell;
    try {
      const url = await media.thumb(cell);
      if (this.cell !== cell) return;
      this.image.onload = () => markPixelated(this.image, this.image.naturalHeight);
      this.image.src = url;
      this.image.hidden = false;
    } catch (error) {
      if (this.cell === cell) this.#sayBroken(error);
    }
  }

  /** Put a video over the thumbnail and let it join the clock. */
  async showVideo(media, clock, clip) {
    const { cell } = this;
    if (!cell || this.tile.status !== "done" || this.video || this.broken) return;
    const video = element("video", { class: "svdlab-cell-video", muted: true, playsinline: true, preload: "auto" });
    this.video = video;
    this.clock = clock;
    video.addEventListener("loadeddata", () => {
      markPixelated(video, video.videoHeight);
      if (this.video === video) this.media.insertBefore(video, this.words);
    });
    try {
      const url = await media.video(cell);
      if (this.video !== video) return;
      clock.add(video, clip);
      video.src = url;
    } catch (error) {
      if (this.video === video) {
        this.video = null;
        this.#sayBroken(error);
      }
    }
  }

  dropVideo() {
    if (!this.video) return;
    this.clock.remove(this.video);
    this.video.removeAttribute("src");
    this.video.load(); // lets the decoder go now, and not when the garbage is collected
    this.video.remove();
    this.video = null;
  }

  dispose() {
    this.#forgetMedia();
  }

  #forgetMedia() {
    this.dropVideo();
    this.shown = this.broken = null;
    this.image.hidden = true;
    this.image.removeAttribute("src");
  }

  #sayBroken(error) {
    this.broken = String(error.message ?? error);
    this.#say("cannot be shown", this.broken);
  }

  #say(word, why) {
    this.words.hidden = !word;
    this.words.replaceChildren(element("strong", {}, word), ...(why ? [element("span", { title: why }, why)] : []));
  }
}

/** Small clips are enlarged without smoothing. */
function markPixelated(node, height) {
  node.classList.toggle("svdlab-pixelated", height > 0 && height < 200);
}
