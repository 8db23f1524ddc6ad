// The official clients, told in each documented way to talk to the server at SVDLAB_URL.

const base = process.env.SVDLAB_URL;
const credentials = process.env.FAL_KEY;
const PLACES = { "queue.fal.run": "/queue", "fal.run": "/run", "rest.fal.ai": "/rest", "rest.alpha.fal.ai": "/rest" };

function moved(text) {
  const address = new URL(text);
  const place = PLACES[address.hostname];
  return place === undefined ? text : base + place + address.pathname + address.search;
}

const middleware = async (request) => ({ ...request, url: moved(request.url) });

// `preload`: nothing is told; the process was started with `--import fal_preload.mjs`.
const WAYS = {
  preload: {},
  proxy: { proxyUrl: { url: `${base}/api/fal/proxy`, when: "always" } },
  middleware: { requestMiddleware: middleware },
  fetch: { fetch: (resource, options) => fetch(moved(String(resource)), options) },
};

export async function connect(which, way, key = credentials) {
  const options = { ...WAYS[way], credentials: key, suppressLocalCredentialsWarning: true };
  if (which === "client") {
    const { createFalClient } = await import("@fal-ai/client");
    return createFalClient(options);
  }
  const fal = await import("@fal-ai/serverless-client"); // the deprecated one knows only a global configuration
  fal.config(options);
  return fal;
}
