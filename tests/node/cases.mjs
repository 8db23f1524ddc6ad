// What a program does with the endpoint, one case each; every case returns what it saw, as plain JSON.

const APP = "fal-ai/fast-svd-lcm";
export const PICTURE = process.env.PICTURE; // a data URI
const QUICK = { image_url: PICTURE, num_frames: 2, steps: 1, seed: 42 };
const LONG = { image_url: PICTURE, num_frames: 25, steps: 40, seed: 1 };

const plain = (result) => (result.data === undefined ? { data: result } : result); // the deprecated client has no envelope

async function seen(promise) {
  try {
    return { value: await promise };
  } catch (error) {
    const { name, message, status, body, requestId, fieldErrors } = error;
    return { error: { name, message, status, body, requestId, fieldErrors } };
  }
}

async function until(fal, requestId, wanted) {
  for (;;) {
    const status = await fal.queue.status(APP, { requestId, logs: true });
    if (wanted.includes(status.status)) return status;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function bytes(url) {
  const response = await fetch(url);
  const data = Buffer.from(await response.arrayBuffer());
  return { status: response.status, type: response.headers.get("content-type"), size: data.length, brand: data.toString("latin1", 4, 8) };
}

async function subscribe(fal) {
  const states = [];
  let lines = [];
  const result = plain(
    await fal.subscribe(APP, {
      input: QUICK,
      logs: true,
      pollInterval: 50,
      onQueueUpdate: (update) => {
        states.push(update.status);
        if (update.status !== "IN_QUEUE") lines = update.logs.map((log) => log.message);
      },
    }),
  );
  return { states, lines, data: result.data, requestId: result.requestId, file: await bytes(result.data.video.url) };
}

async function subscribeStreaming(fal) {
  const states = [];
  const result = plain(
    await fal.subscribe(APP, { input: QUICK, logs: true, mode: "streaming", onQueueUpdate: (update) => states.push(update.status) }),
  );
  return { states, data: result.data };
}

async function queue(fal) {
  const submitted = await fal.queue.submit(APP, { input: QUICK });
  const status = await until(fal, submitted.request_id, ["COMPLETED"]);
  const result = plain(await fal.queue.result(APP, { requestId: submitted.request_id }));
  return { submitted, status, data: result.data };
}

async function early(fal) {
  const { request_id: requestId } = await fal.queue.submit(APP, { input: LONG });
  const result = await seen(fal.queue.result(APP, { requestId }));
  await fal.queue.cancel(APP, { requestId });
  return result;
}

async function cancelRunning(fal) {
  const { request_id: requestId } = await fal.queue.submit(APP, { input: LONG });
  await until(fal, requestId, ["IN_PROGRESS", "COMPLETED"]);
  const cancelled = await seen(fal.queue.cancel(APP, { requestId }));
  const status = await until(fal, requestId, ["COMPLETED"]);
  const result = await seen(fal.queue.result(APP, { requestId }));
  return { cancelled, status, result };
}

async function cancelQueued(fal) {
  const first = await fal.queue.submit(APP, { input: LONG });
  const second = await fal.queue.submit(APP, { input: QUICK });
  const cancelled = await seen(fal.queue.cancel(APP, { requestId: second.request_id }));
  const status = await fal.queue.status(APP, { requestId: second.request_id });
  await fal.queue.cancel(APP, { requestId: first.request_id });
  return { cancelled, status };
}

async function cancelCompleted(fal) {
  const { request_id: requestId } = await fal.queue.submit(APP, { input: QUICK });
  await until(fal, requestId, ["COMPLETED"]);
  return { cancelled: await seen(fal.queue.cancel(APP, { requestId })) };
}

async function streamStatus(fal) {
  const { request_id: requestId } = await fal.queue.submit(APP, { input: QUICK });
  const stream = await fal.queue.streamStatus(APP, { requestId, logs: true });
  const states = [];
  const lines = [];
  stream.on("data", (event) => {
    states.push(event.status);
    for (const log of event.logs ?? []) lines.push(log.message);
  });
  const last = await stream.done();
  return { states, lines, last };
}

async function run(fal) {
  const result = plain(await fal.run(APP, { input: QUICK }));
  return { data: result.data, requestId: result.requestId };
}

function pictureBlob() {
  return new Blob([Buffer.from(PICTURE.split(",")[1], "base64")], { type: "image/png" });
}

async function upload(fal) {
  const url = await fal.storage.upload(pictureBlob());
  const result = plain(await fal.subscribe(APP, { input: { ...QUICK, image_url: url }, pollInterval: 50 }));
  return { url, kept: await bytes(url), data: result.data };
}

async function autoUpload(fal) {
  const result = plain(await fal.subscribe(APP, { input: { ...QUICK, image_url: pictureBlob() }, pollInterval: 50 }));
  return { data: result.data };
}

async function multipart(fal) {
  const size = 91 * 2 ** 20; // the client cuts above 90 MiB
  const url = await fal.storage.upload(new Blob([Buffer.alloc(size, "svdlab ")], { type: "application/octet-stream" }));
  const response = await fetch(url, { headers: { Range: `bytes=${size - 7}-` } });
  return { status: response.status, range: response.headers.get("content-range"), size };
}

const nothing = (fal) => seen(fal.queue.status(APP, { requestId: "00000000-0000-4000-8000-000000000000" }));
const elsewhere = (fal) => seen(fal.run("fal-ai/no-such-model", { input: QUICK }));
const invalid = (fal) => seen(fal.subscribe(APP, { input: { ...QUICK, motion_bucket_id: "much" }, pollInterval: 50 }));
const noInput = (fal) => seen(fal.subscribe(APP, { pollInterval: 50 }));

const timeout = (fal) => seen(fal.subscribe(APP, { input: LONG, pollInterval: 50, timeout: 1500 }));

async function webhook(fal) {
  const { request_id: requestId } = await fal.queue.submit(APP, { input: QUICK, webhookUrl: process.env.WEBHOOK });
  await until(fal, requestId, ["COMPLETED"]);
  return { requestId };
}

const submit = (fal) => seen(fal.queue.submit(APP, { input: QUICK }));

export const CASES = {
  submit,
  subscribe, subscribeStreaming, queue, early, cancelRunning, cancelQueued, cancelCompleted, streamStatus, run, upload,
  autoUpload, multipart, nothing, elsewhere, invalid, noInput, timeout, webhook,
};
export { seen };
