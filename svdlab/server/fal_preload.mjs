// Points unchanged programs of the official JavaScript clients at a server of your own:
//
//   SVDLAB_URL=http://127.0.0.1:8000 FAL_KEY=... node --import ./fal_preload.mjs program.mjs
//
// The clients have the addresses of the hosted service in their source. This module, imported before them, rewrites these
// addresses in `fetch`; every other address is left alone. Other hosts of the service are refused, so that a program that
// was meant for your server cannot talk to the paid one.

const PLACES = {
  "queue.fal.run": "/queue",
  "fal.run": "/run",
  "rest.fal.ai": "/rest",
  "rest.alpha.fal.ai": "/rest",
  "v3.fal.media": "/cdn",
};
const SERVICE = /(^|\.)(fal\.(run|ai|media)|falrun\.com)$/;

const base = serverAddress(process.env.SVDLAB_URL);
const plainFetch = globalThis.fetch;

globalThis.fetch = function fetch(resource, options) {
  if (resource instanceof Request) {
    const moved = rewrite(resource.url);
    return plainFetch(moved === resource.url ? resource : new Request(moved, resource), options);
  }
  return plainFetch(rewrite(String(resource)), options);
};

function serverAddress(text) {
  let address;
  try {
    address = new URL(text);
  } catch {
    address = null;
  }
  if (!address || !/^https?:$/.test(address.protocol) || address.pathname !== "/" || address.search) {
    throw new Error(
      `SVDLAB_URL = ${JSON.stringify(text ?? "")}: must be the address of a server, such as http://127.0.0.1:8000,` +
        " with nothing behind it. Start one with: svdlab serve",
    );
  }
  return address.origin;
}

function rewrite(text) {
  let address;
  try {
    address = new URL(text);
  } catch {
    return text; // fetch says what is wrong with it
  }
  if (!SERVICE.test(address.hostname)) return text;
  const place = PLACES[address.hostname];
  if (place === undefined) {
    throw new TypeError(`${address.hostname} belongs to the hosted service, and ${base} does not stand for it.`);
  }
  return base + place + address.pathname + address.search;
}
