// node [--import ...] matrix.mjs CLIENT WAY CASE...: runs cases, prints one line of JSON for each.

import { CASES } from "./cases.mjs";
import { connect } from "./clients.mjs";

const [which, way, ...names] = process.argv.slice(2);
for (const name of names) {
  const fal = await connect(which, way, name === "wrongKey" ? "wrong:key" : undefined);
  let line;
  try {
    line = { name, value: await CASES[name === "wrongKey" ? "submit" : name](fal) };
  } catch (error) {
    line = { name, failed: String(error.stack ?? error), body: error.body };
  }
  console.log(JSON.stringify(line));
}
process.exit(0); // a poller that a client left behind must not keep the process
