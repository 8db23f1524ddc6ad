// What the parts of the Explorer have in common: how one is defined, and pictures that come as bytes.

/** A widget of one view class; `View(model, el, signal)` builds the page and lives until `signal` aborts. */
function definePart(View) {
  return {
    render({ model, el }) {
      const ending = new AbortController();
      el.classList.add("svdlab-part");
      keepKeys(el, ending.signal);
      new View(model, el, ending.signal);
      return () => ending.abort();
    },
  };
}

/** Call `show` now, and again whenever one of the traits changes. */
function follow(model, names, show) {
  for (const name of names) model.on(`change:${name}`, show);
  show();
}

/** Show bytes in an img; what it showed before is let go. Empty bytes show nothing. */
function showPicture(img, bytes, type, signal) {
  const before = img.dataset.url;
  const some = bytes && bytes.byteLength > 0;
  img.dataset.url = some ? URL.createObjectURL(new Blob([bytes], { type })) : "";
  img.hidden = !some;
  if (some) img.src = img.dataset.url;
  else img.removeAttribute("src");
  if (before) URL.revokeObjectURL(before);
  else signal.addEventListener("abort", () => img.dataset.url && URL.revokeObjectURL(img.dataset.url));
}

/** A line that appears where there is something to say. `role`: "alert" for problems, "status" for the rest. */
function line(role, kind) {
  const node = element("p", { class: `svdlab-line svdlab-${kind}`, role, hidden: true });
  node.say = (text) => {
    node.hidden = !text;
    if (node.textContent !== text) node.textContent = text;
  };
  return node;
}

let countOfIds = 0;

/** An id that nothing else on the page has. */
function newId() {
  countOfIds += 1;
  return `svdlab-${Date.now().toString(36)}-${countOfIds}`;
}
