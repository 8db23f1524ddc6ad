// Play, scrub and speed for all clips in sight, and what is written out.

const PLAY_PATH = "M4 2l10 6-10 6z";
const PAUSE_PATH = "M3 2h4v12H3zM9 2h4v12H9z";

/** One line of controls over a clock. */
class Transport {
  constructor(clock, wake) {
    this.clock = clock;
    this.toggle = button("Play", icon(PLAY_PATH), () => {
      wake();
      clock.toggle();
    });
    this.slider = slider("Frame", { min: 0, max: clock.frames - 1, step: 1 }, (frame) => {
      wake();
      clock.pause();
      clock.seek(frame);
    });
    this.slider.value = 0;
    this.frame = element("span", { class: "svdlab-number svdlab-frame-number" });
    this.speed = dropDown([0.25, 0.5, 1, 2].map((speed) => [speed, `${speed}×`]), (speed) => (clock.speed = Number(speed)));
    this.speed.value = "1";
    const parts = [this.toggle, this.slider, this.frame, labelled("Speed", this.speed)];
    this.node = element("div", { class: "svdlab-row svdlab-transport", role: "group", "aria-label": "playback" }, ...parts);
    clock.on("frame", () => this.#show());
    clock.on("state", () => this.#show());
    this.#show();
  }

  setFrames(frames) {
    this.clock.frames = frames;
    this.slider.max = frames - 1;
    this.#show();
  }

  #show() {
    const { frame, frames, playing } = this.clock;
    this.slider.value = frame;
    this.slider.setAttribute("aria-valuetext", `frame ${frame} of ${frames}, counted from 0`);
    this.frame.textContent = `${frame} / ${frames - 1}`;
    const label = playing ? "Pause" : "Play";
    if (this.toggle.title === label) return;
    for (const name of ["title", "aria-label"]) this.toggle.setAttribute(name, label);
    this.toggle.replaceChildren(icon(playing ? PAUSE_PATH : PLAY_PATH));
  }
}

/** Buttons that write what is seen; `onexport({what, path}) -> Promise<{text, path, url, name}>`. */
class ExportRow {
  constructor(onexport, path) {
    this.onexport = onexport;
    this.path = element("input", { type: "text", class: "svdlab-box svdlab-path", spellcheck: "false", value: path });
    this.said = element("span", { class: "svdlab-said", role: "status" });
    const what = { png: "Contact sheet (PNG)", mp4: "Montage (mp4)", csv: "Table (CSV)" };
    this.buttons = Object.entries(what).map(([kind, words]) => button(`Write what is seen: ${words}`, words, () => this.#write(kind)));
    const parts = [labelled("Write to", this.path), ...this.buttons, this.said];
    this.node = element("div", { class: "svdlab-row", role: "group", "aria-label": "export" }, ...parts);
  }

  async #write(what) {
    this.said.textContent = "writing ...";
    for (const node of this.buttons) node.disabled = true;
    try {
      const { text, url, name } = await this.onexport({ what, path: this.path.value });
      const link = url ? [" ", element("a", { href: url, download: name, class: "svdlab-link" }, "download")] : [];
      this.said.replaceChildren(text, ...link);
    } catch (error) {
      this.said.textContent = String(error.message ?? error);
    } finally {
      for (const node of this.buttons) node.disabled = false;
    }
  }
}
