// A small line chart, one value a frame, that lies under a scrubber: frame i is below the slider's thumb at i.

const CHART_INSET = 8; // px; half the width of the slider's thumb, which never leaves its track
const CHART_HEIGHT = 64;
// Okabe and Ito's palette, told apart with any colour vision; later clips repeat it with broken lines.
const CHART_COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f"];

function curveColour(index) {
  return CHART_COLOURS[index % CHART_COLOURS.length];
}

function curveDash(index) {
  return ["none", "5 3", "1.5 2.5"][Math.floor(index / CHART_COLOURS.length) % 3];
}

class FrameChart {
  #svg = svgElement("svg", { role: "img", height: CHART_HEIGHT });
  #marker = svgElement("g", { class: "svdlab-chart-marker" });
  #content = { title: "", frames: 1, curves: [] };
  #frame = 0;
  #observer;

  /** `onSeek(frame)` is called when the chart is pressed or drawn over. */
  constructor(onSeek) {
    this.node = element("div", { class: "svdlab-chart" }, this.#svg);
    this.#observer = new ResizeObserver(() => this.#draw());
    this.#observer.observe(this.node);
    const seek = (event) => {
      if (event.buttons !== 1) return;
      const { left, width } = this.node.getBoundingClientRect();
      const part = (event.clientX - left - CHART_INSET) / Math.max(1, width - 2 * CHART_INSET);
      onSeek(Math.round(part * (this.#content.frames - 1)));
    };
    this.node.addEventListener("pointerdown", (event) => {
      this.node.setPointerCapture(event.pointerId);
      seek(event);
    });
    this.node.addEventListener("pointermove", seek);
  }

  /** `curves`: [{index, values}], a value a frame, null for none; `title` names the quantity and its unit. */
  show({ title, frames, curves }) {
    this.#content = { title, frames, curves };
    this.#draw();
  }

  /** Mark the current frame. */
  mark(frame) {
    this.#frame = frame;
    this.#drawMarker();
  }

  dispose() {
    this.#observer.disconnect();
  }

  #x(frame) {
    const { frames } = this.#content;
    const width = this.node.clientWidth - 2 * CHART_INSET;
    return CHART_INSET + (frames > 1 ? (frame / (frames - 1)) * width : 0);
  }

  #y(value) {
    const [low, high] = this.range;
    return CHART_HEIGHT - 5 - ((value - low) / (high - low)) * (CHART_HEIGHT - 10);
  }

  #draw() {
    const { title, curves } = this.#content;
    const values = curves.flatMap((curve) => curve.values).filter((value) => value !== null);
    const [low, high] = values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
    const pad = low === high ? Math.abs(low) / 2 || 1 : 0;
    this.range = [low - pad, high + pad];
    const about = values.length ? `from ${shortNumber(low)} to ${shortNumber(high)}` : "nothing to show";
    this.#svg.setAttribute("aria-label", `${title} by frame, ${about}`);
    this.#svg.setAttribute("width", this.node.clientWidth);
    const write = (y, text) => svgElement("text", { x: 2, y }, text);
    const scale = values.length
      ? [write(10, shortNumber(this.range[1])), write(CHART_HEIGHT - 2, shortNumber(this.range[0]))]
      : [write(CHART_HEIGHT / 2, "not defined for any frame")];
    this.#svg.replaceChildren(...curves.map((curve) => this.#line(curve)), ...scale, this.#marker);
    this.#drawMarker();
  }

  /** One curve; it breaks where there is no value, and a value alone is a dot. */
  #line({ index, values }) {
    let path = "";
    values.forEach((value, frame) => {
      if (value === null) return;
      const begins = frame === 0 || values[frame - 1] === null;
      path += `${begins ? "M" : "L"}${this.#x(frame).toFixed(1)} ${this.#y(value).toFixed(1)}`;
      if (begins && (values[frame + 1] ?? null) === null) path += "h0.01";
    });
    const style = { stroke: curveColour(index), "stroke-dasharray": curveDash(index) };
    return svgElement("path", { class: "svdlab-chart-line", d: path, ...style });
  }

  #drawMarker() {
    const x = this.#x(this.#frame);
    const dots = this.#content.curves
      .map(({ index, values }) => ({ index, value: values[this.#frame] ?? null }))
      .filter(({ value }) => value !== null)
      .map(({ index, value }) => svgElement("circle", { cx: x, cy: this.#y(value), r: 3, fill: curveColour(index) }));
    this.#marker.replaceChildren(svgElement("line", { x1: x, x2: x, y1: 0, y2: CHART_HEIGHT }), ...dots);
  }
}
