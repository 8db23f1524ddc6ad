// Numbers as colours: cividis, which grows evenly in lightness and reads the same without red or green.

const CIVIDIS = ["00224e", "1a386f", "434e6c", "61656f", "7d7c78", "9b9476", "bcae6c", "dec958", "fee838"].map((hex) =>
  [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)),
);

/** The colour of `value` between `low` and `high`, and black or white ink that is readable on it. */
function heatColour(value, { low, high }) {
  const at = high > low ? Math.min(Math.max((value - low) / (high - low), 0), 1) : 0.5;
  const step = Math.min(Math.floor(at * (CIVIDIS.length - 1)), CIVIDIS.length - 2);
  const part = at * (CIVIDIS.length - 1) - step;
  const rgb = CIVIDIS[step].map((from, k) => Math.round(from + part * (CIVIDIS[step + 1][k] - from)));
  const [red, green, blue] = rgb.map((level) => (level / 255) ** 2.2);
  const light = 0.2126 * red + 0.7152 * green + 0.0722 * blue; // relative luminance, BT.709
  return { fill: `rgb(${rgb.join(" ")})`, ink: light > 0.18 ? "#000" : "#fff" };
}

/** Smallest and largest value of a metric over the whole table, so that a colour means the same in every view. */
function metricRange(table, name) {
  const values = table.map((row) => row.metrics[name] ?? null).filter((value) => value !== null);
  return values.length ? { low: Math.min(...values), high: Math.max(...values) } : null;
}

/** The colour bar: lowest and highest value, unit, and which end is better. */
function heatLegend(name, metric, range) {
  const stops = CIVIDIS.map((rgb) => `rgb(${rgb.join(" ")})`).join(", ");
  const better = { higher: "higher is better", lower: "lower is better" }[metric?.direction] ?? "";
  const bar = element("span", { class: "svdlab-legend-bar", "aria-hidden": "true" });
  bar.style.background = `linear-gradient(90deg, ${stops})`;
  const about = [metric?.unit, better].filter(Boolean).join(", ");
  const title = element("span", { title: metric?.title }, `${name}${about ? ` (${about})` : ""}`);
  const end = (text) => element("span", { class: "svdlab-number" }, text);
  const ends = range ? [end(shortNumber(range.low)), bar, end(shortNumber(range.high))] : [end("no values yet")];
  return element("div", { class: "svdlab-legend" }, title, ...ends);
}
