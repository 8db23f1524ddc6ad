// The stage: one video a clip, side by side, or two of them in one place to be compared. All videos stay where they are
// in the page, since a video that is moved stops; a mode is an attribute that the style sheet reads.

const STAGE_SMALL = 256; // px; narrower clips are enlarged by a whole number, without smoothing

class Stage {
  #tiles = [];
  #clock;
  #area = element("div", { class: "svdlab-stage-area" });
  #divider = element("div", { class: "svdlab-stage-divider", "aria-hidden": "true" });
  #gain = element("div", { class: "svdlab-stage-gain", "aria-hidden": "true" });
  #mode = "side";
  #pair = [0, 1];

  /** `onWipe(part, done)` is called while the divider is drawn. */
  constructor(clock, onWipe) {
    this.#clock = clock;
    this.#area.append(this.#gain, this.#divider);
    this.node = element("div", { class: "svdlab-stage" }, this.#area);
    const wipe = (event) => {
      if (this.#mode !== "wipe" || event.buttons !== 1) return;
      const { left, width } = this.#area.getBoundingClientRect();
      onWipe(Math.min(Math.max((event.clientX - left) / width, 0), 1));
    };
    this.#area.addEventListener("pointerdown", (event) => {
      if (this.#mode === "wipe") this.#area.setPointerCapture(event.pointerId);
      wipe(event);
    });
    this.#area.addEventListener("pointermove", wipe);
  }

  /** `clips`: [{url, frames, fps, width, height, label}]; `height`: px, or null to choose by size and number. */
  setClips(clips, height) {
    this.dispose();
    this.height = height;
    this.#tiles = clips.map((clip, index) => this.#tile(clip, index));
    this.#area.prepend(...this.#tiles.map(({ figure }) => figure));
    this.#arrange();
  }

  /** `mode`: side, wipe, blend or ab; `pair`: the two clips of the last three. */
  setMode(mode, pair) {
    this.#mode = mode;
    this.#pair = pair;
    this.#arrange();
  }

  setWipe(part) {
    this.#area.style.setProperty("--svdlab-wipe", `${part * 100}%`);
  }

  /** How much a difference is amplified. */
  setGain(gain) {
    this.#area.style.setProperty("--svdlab-gain", gain);
  }

  /** Show the second clip of the pair alone, for as long as `held`. */
  hold(held) {
    this.#area.classList.toggle("svdlab-holding", held && this.#mode !== "side");
  }

  /** The value of a metric beside each name; null takes all away. */
  setValues(values) {
    this.#tiles.forEach(({ swatch, value }, index) => {
      swatch.hidden = value.hidden = values === null;
      value.textContent = values === null ? "" : shortNumber(values[index]);
    });
  }

  dispose() {
    for (const { figure, video } of this.#tiles) {
      this.#clock.remove(video);
      video.removeAttribute("src");
      video.load(); // frees the decoder at once
      figure.remove();
    }
    this.#tiles = [];
  }

  #tile(clip, index) {
    const video = element("video", { preload: "auto", playsinline: true, "aria-label": clip.label });
    video.muted = true;
    video.disablePictureInPicture = true;
    video.src = clip.url;
    const swatch = element("span", { class: "svdlab-swatch", hidden: true });
    swatch.style.setProperty("--svdlab-colour", curveColour(index));
    const letter = element("span", { class: "svdlab-letter", hidden: true });
    const name = element("span", { class: "svdlab-name", title: clip.label }, clip.label);
    const value = element("span", { class: "svdlab-value", hidden: true });
    const caption = element("figcaption", {}, letter, swatch, name, value);
    const figure = element("figure", { class: "svdlab-tile" }, video, caption);
    video.addEventListener("error", () => {
      if (!video.hasAttribute("src")) return;
      const words = "This clip cannot be played here: the browser lacks H.264, or the data is damaged.";
      figure.append(element("p", { class: "svdlab-problem", role: "alert" }, words));
    });
    return { clip, video, figure, letter, swatch, name, value };
  }

  /** Who is seen, where and how large, and who walks with the clock. */
  #arrange() {
    const compare = this.#mode !== "side";
    this.#area.dataset.mode = this.#mode;
    this.#divider.hidden = this.#mode !== "wipe";
    this.#gain.hidden = this.#mode !== "blend";
    this.#tiles.forEach(({ clip, video, figure, letter }, index) => {
      const role = compare ? this.#pair.indexOf(index) : -1;
      figure.dataset.role = ["", "a", "b"][role + 1];
      figure.hidden = compare && role < 0;
      letter.hidden = !compare;
      letter.textContent = ["", "A", "B"][role + 1];
      const [width, height] = this.#size(compare ? this.#tiles[this.#pair[0]].clip : clip, compare);
      figure.style.setProperty("--svdlab-width", `${width}px`);
      figure.style.setProperty("--svdlab-aspect", `${width} / ${height}`);
      video.classList.toggle("svdlab-pixelated", clip.width < width);
      if (figure.hidden) this.#clock.remove(video);
      else this.#clock.add(video, clip);
    });
  }

  #size({ width, height }, compare) {
    if (this.height) return [(width * this.height) / height, this.height];
    const count = compare ? 1 : this.#tiles.length;
    if (width >= STAGE_SMALL) {
      const shown = Math.min(width, [0, 720, 420][count] ?? 300);
      return [shown, (shown * height) / width];
    }
    const room = [0, 384, 256][count] ?? 192;
    const factor = Math.max(1, Math.floor(room / Math.max(width, height)));
    return [width * factor, height * factor];
  }
}
