// The page of `svdlab serve`: one request at a time, by the same routes that the official clients use. Everything that
// comes from the server or from a file is shown as text, never as HTML. The key stays in this page's memory.

const $ = (id) => document.getElementById(id);
const about = await (await fetch("/page/about.json")).json();
const queue = `/queue/${about.app}`;
let picture = null;
let current = null; // the id of the request that is followed

$("app").textContent = about.app;
$("model").textContent = about.model;
document.title = `${about.model}: picture to video`;

if (location.hash.startsWith("#key=")) {
  $("key").value = decodeURIComponent(location.hash.slice(5));
  history.replaceState(null, "", "/"); // neither shown nor kept
}

for (const knob of about.knobs) {
  const label = document.createElement("label");
  const number = Object.assign(document.createElement("input"), {
    type: "number", id: knob.name, name: knob.name, min: knob.min, max: knob.max, step: knob.step,
    value: knob.value ?? "", placeholder: knob.value === null ? "drawn" : "",
  });
  label.append(knob.name);
  if (knob.value === null) {
    number.className = "wide";
  } else {
    const range = Object.assign(document.createElement("input"), {
      type: "range", min: knob.min, max: knob.most, step: knob.step, value: knob.value, ariaLabel: knob.name,
    });
    range.addEventListener("input", () => { number.value = range.value; });
    number.addEventListener("input", () => { range.value = number.value; });
    label.append(range);
  }
  label.append(number);
  $("knobs").append(label);
}

function choose(file) {
  if (!file) return;
  picture = file;
  URL.revokeObjectURL($("preview").src);
  $("preview").src = URL.createObjectURL(file);
  $("preview").hidden = false;
  $("preview").alt = file.name;
  $("hint").textContent = file.name;
}

$("file").addEventListener("change", () => choose($("file").files[0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") choose(event.dataTransfer.files[0]);
  });
}
$("drop").addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") $("file").click(); });

async function ask(method, path, body) {
  const headers = { Authorization: `Key ${$("key").value.trim()}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const said = await answer.json();
  if (answer.status === 401) {
    throw new Error("This key is not one of the server's. svdlab serve prints one, or svdlab keys add makes one.");
  }
  if (!answer.ok) throw new Error(`${said.message ?? answer.statusText} (${answer.status})`);
  return said;
}

async function upload(file) {
  const type = file.type || "application/octet-stream";
  const place = await ask("POST", "/rest/storage/upload/initiate", { content_type: type, file_name: file.name });
  const path = new URL(place.upload_url).pathname;
  const answer = await fetch(path, { method: "PUT", headers: { "Content-Type": type }, body: file });
  if (!answer.ok) throw new Error((await answer.json()).message);
  return place.file_url;
}

function say(text, isError = false) {
  $("status").textContent = text;
  $("status").className = isError ? "error" : "";
}

function busy(yes) {
  $("generate").disabled = yes;
  $("cancel").disabled = !yes;
  $("progress").hidden = !yes;
}

function show(status) {
  const lines = status.logs ?? [];
  $("logs").textContent = lines.map((line) => `${line.timestamp.slice(11, 19)}  ${line.message}`).join("\n");
  if (status.status === "IN_QUEUE") {
    say(`Waiting: ${status.queue_position} ahead.`);
    $("progress").removeAttribute("value");
    return;
  }
  const steps = lines.map((line) => /^step (\d+) of (\d+)$/.exec(line.message)).filter(Boolean).at(-1);
  say(lines.at(-1) ? `Running: ${lines.at(-1).message}.` : "Running.");
  if (steps) $("progress").value = Number(steps[1]) / (Number(steps[2]) + 1);
}

async function follow(id) {
  while (true) {
    const status = await ask("GET", `${queue}/requests/${id}/status?logs=1`);
    show(status);
    if (status.status === "COMPLETED") return ask("GET", `${queue}/requests/${id}`);
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

$("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("about").textContent = "";
  $("logs").textContent = "";
  $("video").hidden = true;
  $("video").removeAttribute("src");
  if (!picture) return say("Choose a picture first.", true);
  if (!$("key").value.trim()) return say("Give the key that svdlab serve printed.", true);
  busy(true);
  try {
    say("Uploading.");
    const input = { image_url: await upload(picture) };
    for (const knob of about.knobs) if ($(knob.name).value !== "") input[knob.name] = Number($(knob.name).value);
    current = (await ask("POST", queue, input)).request_id;
    const result = await follow(current);
    $("video").src = new URL(result.video.url).pathname;
    $("video").hidden = false;
    $("about").textContent = `seed ${result.seed}, ${Math.round(result.video.file_size / 1000)} kB`;
    say("Done.");
  } catch (error) {
    say(error.message, true);
  } finally {
    current = null;
    busy(false);
  }
});

$("cancel").addEventListener("click", async () => {
  if (current) await ask("PUT", `${queue}/requests/${current}/cancel`).catch((error) => say(error.message, true));
});

async function state() {
  try {
    const health = await (await fetch("/health")).json();
    $("state").textContent = `(${health.state.toLowerCase().replace("_", " ")})`;
    $("notice").textContent = health.notice ?? "";
  } catch {
    $("state").textContent = "(not reached)";
  }
  setTimeout(state, 3000);
}
state();
document.body.dataset.ready = "yes";
