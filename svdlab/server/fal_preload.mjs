// Points programs written for the hosted service at a server of svdlab, without a change to them:
//
//   SVDLAB_URL=http://127.0.0.1:8000 FAL_KEY=... node --import ./fal_preload.mjs program.mjs
//
// It wraps `fetch` before the official client is imported. Every request to the hosted service's hosts goes to
// SVDLAB_URL instead; nothing is ever sent to them.

const base = process.env.SVDLAB_URL?.replace(/\/+$/, "");
if (!base || !/^https?:\/\/[^/]+$/.test(base)) {
  throw new Error("SVDLAB_URL: must be http(s)://host:port of a server of svdlab, such as http://127.0.0.1:8000");
}

const places = {
  "queue.fal.run": "/queue",
  "fal.run": "/run",
  "rest.fal.ai": "/rest",
  "rest.alpha.fal.ai": "/rest",
};
const original = globalThis.fetch;

globalThis.fetch = function fetch(input, init) {
  const asked = new URL(input instanceof Request ? input.url : String(input));
  if (!(asked.hostname in places)) {
    return original(input, init);
  }
  const target = base + places[asked.hostname] + asked.pathname + asked.search;
  return original(input instanceof Request ? new Request(target, input) : target, init);
};
