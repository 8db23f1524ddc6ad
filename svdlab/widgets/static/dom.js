// Small helpers to build a page. Text goes in as text nodes only: names of files and error texts are hostile input.

/** An element with attributes and children; a child that is no node becomes text. */
function element(tag, attributes = {}, ...children) {
  return fillElement(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
function svgElement(tag, attributes = {}, ...children) {
  return fillElement(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fillElement(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** Listen until `signal` aborts. */
function listen(target, kind, callback, signal) {
  target.addEventListener(kind, callback, { signal });
}

/** A button that shows `content` (text or a node) and is called `label`. */
function button(label, content, onClick) {
  const about = { type: "button", class: "svdlab-button", "aria-label": label, title: label };
  const node = element("button", about, content);
  node.addEventListener("click", onClick);
  return node;
}

/** A control with its visible name beside it. */
function labelled(name, control) {
  return element("label", { class: "svdlab-labelled" }, element("span", {}, name), control);
}

/** A drop-down; `choices` are [value, text] pairs. */
function dropDown(choices, onChange) {
  const node = element("select", { class: "svdlab-select" });
  setChoices(node, choices);
  node.addEventListener("change", () => onChange(node.value));
  return node;
}

/** Replace what a drop-down offers; the chosen value stays where it is still offered. */
function setChoices(node, choices) {
  const { value } = node;
  node.replaceChildren(...choices.map(([choice, text]) => element("option", { value: choice }, text)));
  if (choices.some(([choice]) => String(choice) === value)) node.value = value;
}

/** A slider over whole or broken numbers. */
function slider(label, { min, max, step }, onInput) {
  const node = element("input", { type: "range", class: "svdlab-slider", "aria-label": label, min, max, step });
  node.addEventListener("input", () => onInput(Number(node.value)));
  return node;
}

/** A picture of 16 x 16 units drawn by one path. */
function icon(path) {
  return svgElement(
    "svg",
    { viewBox: "0 0 16 16", width: 14, height: 14, "aria-hidden": "true", fill: "currentColor" },
    svgElement("path", { d: path }),
  );
}

/** Three significant digits; a dash for what is not defined. */
function shortNumber(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  return size !== 0 && (size < 0.001 || size >= 100000) ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}

/**
 * Keep plain keys from the notebook around: without this, "b" in a widget adds a cell in JupyterLab, which listens
 * before any element does and leaves alone only what carries this attribute. Keys with Ctrl, Meta or Alt, and Shift
 * with Enter, stay the notebook's.
 */
function keepKeys(root, signal) {
  const mark = (event) => {
    const theirs = event.ctrlKey || event.metaKey || event.altKey || (event.shiftKey && event.key === "Enter");
    root.toggleAttribute("data-lm-suppress-shortcuts", !theirs);
  };
  window.addEventListener("keydown", mark, { capture: true, signal });
  for (const kind of ["keydown", "keyup", "keypress"]) {
    listen(root, kind, (event) => root.hasAttribute("data-lm-suppress-shortcuts") && event.stopPropagation(), signal);
  }
}
