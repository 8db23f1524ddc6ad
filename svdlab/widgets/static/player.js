// The frame player: clips on a stage, one clock for all views of a widget, a scrubber with a chart under it, and keys.

const PLAYER_SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4];
const PLAYER_MODES = [["side", "Side by side"], ["wipe", "Wipe"], ["blend", "Difference"], ["ab", "A/B"]];
const PLAYER_REPORT = 250; // ms between two frame numbers told to Python while playing
const PLAYER_KEYS = [
  ["Space", "play or pause"],
  ["Left, Right", "one frame back or on"],
  ["Home, End", "first or last frame"],
  ["[ and ]", "slower or faster"],
  ["L", "loop or play once"],
  ["B, held", "the second clip alone, in a mode that compares two"],
  ["?", "show or hide this list"],
];
const PLAYER_ICONS = {
  play: "M4 2l10 6-10 6z",
  pause: "M3 2h4v12H3zM9 2h4v12H9z",
  back: "M3 3h2v10H3zM13 3v10L6 8z",
  on: "M11 3h2v10h-2zM3 3v10l7-5z",
};

/** What all views of one widget share: the clock, and the clips as addresses that a video can play. */
class PlayerState {
  #urls = [];
  #told = 0;
  #loading = false;

  constructor(model) {
    this.model = model;
    this.clock = new Clock({ frames: 1, fps: 1, loop: model.get("loop"), speed: model.get("speed") });
    this.views = 0;
    this.#load();
    model.on("change:_clips", () => this.#load());
    model.on("change:frame", () => model.get("frame") !== this.clock.frame && this.clock.seek(model.get("frame")));
    model.on("change:playing", () => this.#obey());
    model.on("change:speed", () => (this.clock.speed = model.get("speed")));
    model.on("change:loop", () => (this.clock.loop = model.get("loop")));
    this.clock.on("frame", (frame) => this.#tell(frame));
    this.clock.on("state", (playing) => {
      this.#told = 0;
      this.tell({ frame: this.clock.frame, playing });
    });
  }

  /** The clips, ready to be put on a stage. */
  get clips() {
    const labels = this.model.get("labels");
    const clips = this.model.get("_clips");
    return clips.map(({ video, ...about }, index) => ({ ...about, url: this.#urls[index], label: labels[index] }));
  }

  /** Set traits, here and in Python. */
  tell(values) {
    for (const [name, value] of Object.entries(values)) this.model.set(name, value);
    this.model.save_changes();
  }

  /** A view came or went: a clock that nobody sees stands still. */
  count(change) {
    this.views += change;
    if (this.views > 0) this.#obey();
    else this.clock.pause();
  }

  dispose() {
    this.clock.dispose();
    this.#urls.forEach((url) => URL.revokeObjectURL(url));
    this.#urls = [];
  }

  #load() {
    const { model, clock } = this;
    this.#loading = true; // what the clock does on the way is nobody's wish
    this.#urls.forEach((url) => URL.revokeObjectURL(url));
    const clips = model.get("_clips");
    this.#urls = clips.map(({ video }) => URL.createObjectURL(new Blob([video], { type: "video/mp4" })));
    clock.frames = Math.max(...clips.map(({ frames }) => frames));
    clock.fps = clips[0].fps;
    clock.seek(model.get("frame"));
    this.#loading = false;
  }

  #obey() {
    if (this.model.get("playing") && this.views > 0) this.clock.play();
    else this.clock.pause();
  }

  /** While playing Python hears of some frames, since it needs not all; paused, of each. */
  #tell(frame) {
    const now = performance.now();
    if (this.#loading || (this.clock.playing && now - this.#told < PLAYER_REPORT)) return;
    this.#told = now;
    this.tell({ frame });
  }
}

/** One view: builds the page and keeps it equal to the traits. */
class PlayerView {
  #held = false;
  #values = null;
  #changed = new Set();

  constructor(state, el, signal) {
    Object.assign(this, { state, signal, model: state.model, clock: state.clock });
    this.stage = new Stage(this.clock, (part) => this.#wipe(part));
    this.chart = new FrameChart((frame) => this.clock.seek(frame));
    this.#build();
    el.append(this.root);
    keepKeys(this.root, signal);
    listen(this.root, "keydown", (event) => this.#key(event), signal);
    listen(this.root, "keyup", (event) => event.key.toLowerCase() === "b" && this.#hold(false), signal);
    listen(this.root, "focusout", () => this.#hold(false), signal);
    this.ends = [
      this.clock.on("frame", (frame) => this.#showFrame(frame)),
      this.clock.on("state", () => this.#showState()),
    ];
    this.#showClips();
    this.#showState();
    state.count(1);
  }

  /** Follow the traits. `model` belongs to this view and forgets the callbacks with it. */
  follow(model) {
    const parts = {
      clips: ["_clips", "labels", "height"],
      mode: ["mode", "pair", "wipe"],
      overlay: ["overlay", "_curves"],
      state: ["speed", "loop"],
    };
    for (const [part, names] of Object.entries(parts)) {
      for (const name of names) model.on(`change:${name}`, () => this.#refresh(part));
    }
  }

  dispose() {
    this.ends.forEach((end) => end());
    this.stage.dispose();
    this.chart.dispose();
    this.state.count(-1);
    this.root.remove();
  }

  // ------------------------------------------------------------ the page

  #build() {
    const { clock, state } = this;
    this.play = button("Play", icon(PLAYER_ICONS.play), () => clock.toggle());
    const back = button("One frame back", icon(PLAYER_ICONS.back), () => clock.step(-1));
    const on = button("One frame on", icon(PLAYER_ICONS.on), () => clock.step(1));
    this.scrubber = slider("Frame", { min: 0, max: 1, step: 1 }, (frame) => clock.seek(frame));
    this.readout = element("output", { class: "svdlab-readout", "aria-live": "off" });
    this.overlay = dropDown([], (name) => state.tell({ overlay: name || null }));
    this.overlayLabel = labelled("Metric", this.overlay);
    const buttons = element("div", { class: "svdlab-row" }, back, this.play, on);
    const parts = [buttons, this.scrubber, this.readout, this.chart.node];
    const transport = element("div", { class: "svdlab-transport" }, ...parts);
    const keys = PLAYER_KEYS.flatMap(([key, what]) => [element("dt", {}, key), element("dd", {}, what)]);
    this.help = element("dl", { class: "svdlab-help", hidden: true }, ...keys);
    this.helpButton = button("Keys", "?", () => this.#toggleHelp());
    this.helpButton.setAttribute("aria-expanded", "false");
    const name = "Frame player, press ? for its keys";
    const about = { class: "svdlab-player", tabindex: 0, role: "group", "aria-label": name };
    this.root = element("div", about, this.stage.node, transport, this.#buildOptions(), this.help);
  }

  #buildOptions() {
    const { state } = this;
    this.mode = dropDown(PLAYER_MODES, (mode) => state.tell({ mode }));
    this.pair = [0, 1].map((place) => dropDown([], (value) => this.#choose(place, Number(value))));
    const percent = { min: 0, max: 100, step: 1 };
    this.wipe = slider("Divider, percent from the left", percent, (part) => this.#wipe(part / 100));
    this.gain = dropDown([[1, "x1"], [4, "x4"], [8, "x8"]], (gain) => this.stage.setGain(gain));
    this.holdButton = this.#buildHold();
    this.speed = dropDown([], (speed) => state.tell({ speed: Number(speed) }));
    this.loop = element("input", { type: "checkbox" });
    listen(this.loop, "change", () => state.tell({ loop: this.loop.checked }), this.signal);
    this.modeLabel = labelled("View", this.mode);
    this.pairLabels = [labelled("A", this.pair[0]), labelled("B", this.pair[1])];
    this.pair.forEach((choice, place) => choice.setAttribute("aria-label", `Clip ${"AB"[place]}`));
    this.wipeLabel = labelled("Divider", this.wipe);
    this.gainLabel = labelled("Amplified", this.gain);
    const compare = [this.modeLabel, ...this.pairLabels, this.wipeLabel, this.gainLabel, this.holdButton];
    const common = [this.overlayLabel, labelled("Speed", this.speed), labelled("Loop", this.loop), this.helpButton];
    const rows = [compare, common].map((controls) => element("div", { class: "svdlab-row" }, ...controls));
    return element("div", { class: "svdlab-options" }, ...rows);
  }

  #buildHold() {
    const node = button("Hold to see clip B", "Hold for B", () => {});
    const hold = (kind, held) => listen(node, kind, () => this.#hold(held), this.signal);
    const press = (kind, held) =>
      listen(node, kind, (event) => [" ", "Enter"].includes(event.key) && this.#hold(held), this.signal);
    hold("pointerdown", true);
    for (const kind of ["pointerup", "pointerleave", "pointercancel"]) hold(kind, false);
    press("keydown", true);
    press("keyup", false);
    return node;
  }

  #toggleHelp() {
    this.help.hidden = !this.help.hidden;
    this.helpButton.setAttribute("aria-expanded", String(!this.help.hidden));
  }

  // ------------------------------------------------------------ what the traits say

  /** Show a part anew, once all traits that change together have changed. */
  #refresh(part) {
    if (this.#changed.size === 0) queueMicrotask(() => this.#refreshNow());
    this.#changed.add(part);
  }

  #refreshNow() {
    const changed = new Set(this.#changed);
    this.#changed.clear();
    if (this.signal.aborted) return;
    if (changed.has("clips")) this.#showClips();
    else if (changed.has("mode")) this.#showMode();
    else if (changed.has("overlay")) this.#showOverlay();
    if (changed.has("state")) this.#showState();
  }

  #showClips() {
    const { clips } = this.state;
    this.stage.setClips(clips, this.model.get("height"));
    this.scrubber.max = this.clock.frames - 1;
    this.modeLabel.hidden = clips.length < 2;
    for (const choice of this.pair) setChoices(choice, clips.map(({ label }, index) => [index, label]));
    this.#showMode();
    this.#showOverlay();
    this.#showFrame(this.clock.frame);
  }

  #showMode() {
    const [mode, pair, part] = ["mode", "pair", "wipe"].map((name) => this.model.get(name));
    this.mode.value = mode;
    this.pair.forEach((choice, place) => (choice.value = String(pair[place])));
    this.pairLabels.forEach((label) => (label.hidden = mode === "side"));
    this.wipeLabel.hidden = mode !== "wipe";
    this.gainLabel.hidden = mode !== "blend";
    this.holdButton.hidden = mode !== "ab";
    this.wipe.value = String(Math.round(part * 100));
    this.stage.setMode(mode, pair);
    this.stage.setWipe(part);
    this.#showOverlay();
  }

  #showOverlay() {
    const curves = this.model.get("_curves");
    const names = Object.keys(curves);
    const name = this.model.get("overlay");
    this.overlayLabel.hidden = names.length === 0;
    const title = (each) => (curves[each].unit ? `${each} (${curves[each].unit})` : each);
    setChoices(this.overlay, [["", "none"], ...names.map((each) => [each, title(each)])]);
    this.overlay.value = name ?? "";
    this.#values = name === null ? null : curves[name].values;
    this.chart.node.hidden = this.#values === null;
    if (this.#values !== null) {
      const seen = this.model.get("mode") === "side" ? this.#values.map((_, index) => index) : this.model.get("pair");
      const shown = seen.map((index) => ({ index, values: this.#values[index] }));
      this.chart.show({ title: title(name), frames: this.clock.frames, curves: shown });
    }
    this.#showFrame(this.clock.frame);
  }

  #showFrame(frame) {
    this.scrubber.value = String(frame);
    this.scrubber.setAttribute("aria-valuetext", `frame ${frame} of 0 to ${this.clock.frames - 1}`);
    this.readout.textContent = `${frame} / ${this.clock.frames - 1}`;
    this.readout.title = "Frame, counted from 0";
    this.chart.mark(frame);
    this.stage.setValues(this.#values && this.#values.map((values) => values[frame] ?? null));
  }

  #showState() {
    const playing = this.clock.playing;
    const name = playing ? "Pause" : "Play";
    this.play.replaceChildren(icon(playing ? PLAYER_ICONS.pause : PLAYER_ICONS.play));
    this.play.setAttribute("aria-label", name);
    this.play.title = name;
    const speed = this.model.get("speed");
    const speeds = [...new Set([...PLAYER_SPEEDS, speed])].sort((a, b) => a - b);
    setChoices(this.speed, speeds.map((each) => [each, `${each}x`]));
    this.speed.value = String(speed);
    this.loop.checked = this.model.get("loop");
  }

  // ------------------------------------------------------------ what people do

  #wipe(part) {
    this.wipe.value = String(Math.round(part * 100));
    this.stage.setWipe(part);
    this.state.tell({ wipe: part });
  }

  /** Take clip `index` as A or B; choosing the other one swaps the two. */
  #choose(place, index) {
    const pair = [...this.model.get("pair")];
    if (pair[1 - place] === index) pair[1 - place] = pair[place];
    pair[place] = index;
    this.state.tell({ pair });
  }

  #hold(held) {
    if (held === this.#held) return;
    this.#held = held;
    this.stage.hold(held);
    this.holdButton.classList.toggle("svdlab-pressed", held);
  }

  #changeSpeed(direction) {
    const speed = this.model.get("speed");
    const faster = PLAYER_SPEEDS.find((each) => each > speed);
    const slower = PLAYER_SPEEDS.findLast((each) => each < speed);
    this.state.tell({ speed: (direction > 0 ? faster : slower) ?? speed });
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { target } = event;
    const action = this.#action(event.key);
    if (!action) return;
    // A control keeps the keys that mean something to it: all of them a drop-down, Space a button or a box.
    if (target instanceof HTMLSelectElement) return;
    if (target instanceof HTMLButtonElement || target === this.loop) {
      if (event.key === " ") return;
    }
    if (target === this.wipe && ["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) return;
    event.preventDefault();
    action();
  }

  #action(key) {
    const { clock, state } = this;
    const actions = {
      " ": () => clock.toggle(),
      ArrowLeft: () => clock.step(-1),
      ArrowRight: () => clock.step(1),
      Home: () => clock.seek(0),
      End: () => clock.seek(clock.frames - 1),
      "[": () => this.#changeSpeed(-1),
      "]": () => this.#changeSpeed(1),
      l: () => state.tell({ loop: !this.model.get("loop") }),
      b: () => this.#hold(true),
      "?": () => this.#toggleHelp(),
    };
    return actions[key.length === 1 ? key.toLowerCase() : key];
  }
}

export default () => {
  let state;
  return {
    initialize({ model }) {
      state = new PlayerState(model);
      return () => state.dispose();
    },
    render({ model, el }) {
      const ending = new AbortController();
      const view = new PlayerView(state, el, ending.signal);
      view.follow(model);
      return () => {
        ending.abort();
        view.dispose();
      };
    },
  };
};
