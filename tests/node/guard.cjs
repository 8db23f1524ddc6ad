// No request leaves the machine, whatever a client makes of its settings. Required before all else in the tests: what is
// imported comes later, and Node.js 18 imports several modules side by side, in no fixed order.

const plainFetch = globalThis.fetch;

globalThis.fetch = function fetch(resource, options) {
  const address = new URL(resource instanceof Request ? resource.url : String(resource));
  if (address.hostname !== "127.0.0.1") throw new TypeError(`the test refuses to leave the machine: ${address.host}`);
  return plainFetch(resource, options);
};
