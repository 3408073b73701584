// Node's ws against a running onnxd.
//
//     node client.mjs 127.0.0.1:PORT FOLDER
//
// FOLDER is the one that digits.py wrote. Wants ws in node_modules beside this file.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { once } from "node:events";
import { join } from "node:path";
import WebSocket from "ws";

const [host, folder] = process.argv.slice(2);
const digits = readdirSync(folder)
  .filter((name) => /^\d\.png$/.test(name))
  .map((name) => ({ label: Number(name[0]), png: readFileSync(join(folder, name)) }));
const labels = digits.map((digit) => digit.label);

// Opens a conversation, sends the messages at once, and returns as many parsed replies.
async function converse(path, messages) {
  const ws = new WebSocket(`ws://${host}${path}`, { handshakeTimeout: 30_000 });
  const signal = AbortSignal.timeout(60_000);
  const replies = [];
  const done = new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => reject(new Error("no reply in time")));
    ws.on("error", reject);
    ws.on("close", (code) => reject(new Error(`closed with ${code}`)));
    ws.on("message", (data, isBinary) => {
      if (isBinary) return reject(new Error("a binary reply came"));
      replies.push(JSON.parse(data.toString()));
      if (replies.length === messages.length) resolve();
    });
    ws.on("open", () => messages.forEach((message) => ws.send(message)));
  });
  try {
    await done;
    const closed = once(ws, "close", { signal });
    ws.close(1000);
    assert.equal((await closed)[0], 1000, "the close code");
  } finally {
    ws.terminate();
  }
  return replies;
}

const label = (entry) => Number(entry.split(":")[2]);

// The best label of each picture of an OIP reply with three classes a picture.
function best(reply) {
  assert.ok(reply.outputs, `expected outputs, got ${JSON.stringify(reply)}`);
  const { datatype, shape, data } = reply.outputs[0];
  assert.equal(datatype, "BYTES");
  assert.equal(data.length, 3 * shape[0]);
  return data.filter((_, i) => i % 3 === 0).map(label);
}

const checks = {
  async "raw PNGs, pipelined"() {
    const replies = await converse("/", digits.map((digit) => digit.png));
    assert.deepEqual(replies.map((reply) => best(reply)[0]), labels);
  },

  async "OIP JSON with an id"() {
    const data = digits.map((digit) => digit.png.toString("base64"));
    const inputs = [{ name: "image", shape: [data.length], datatype: "BYTES", data }];
    const [reply] = await converse("/v2/models/digits/infer", [JSON.stringify({ id: "node", inputs })]);
    assert.equal(reply.id, "node");
    assert.deepEqual(best(reply), labels);
  },

  async "several instances"() {
    const instances = digits.map((digit) => digit.png.toString("base64"));
    const [reply] = await converse("/v2/models/digits", [JSON.stringify({ instances })]);
    assert.deepEqual(reply.predictions.map((row) => label(row[0])), labels);
  },

  async "?classification=0 gives ten probabilities"() {
    const replies = await converse("/?classification=0", digits.map((digit) => digit.png));
    replies.forEach((reply, i) => {
      const { datatype, shape, data } = reply.outputs[0];
      assert.deepEqual({ datatype, shape, length: data.length }, { datatype: "FP32", shape: [1, 10], length: 10 });
      assert.ok(Math.abs(data.reduce((a, b) => a + b) - 1) < 1e-4, `they do not sum to 1: ${data}`);
      assert.equal(data.indexOf(Math.max(...data)), labels[i]);
    });
  },
};

assert.ok(digits.length > 0, "no pictures");
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`ok ws: ${name}`);
  } catch (error) {
    console.log(`FAILED ws: ${name}: ${error.message.replace(/\s+/g, " ")}`);
    process.exitCode = 1;
  }
}
