// A program of a test: a provider on loopback, a whole Keymeter beside it, a key, a request. Prints what came of it, as JSON.
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import { freePorts } from "../free-ports.ts";

const START = fileURLToPath(new URL("../../start.mjs", import.meta.url));
const provider = await startFakeProvider(json(chatAnswer()));
const ports = await freePorts();
const env = {
  ...process.env,
  ...ports,
  KEYMETER_OPENAI_URL: provider.url,
  OPENAI_API_KEY: "sk-of-a-provider-0123456789",
  KEYMETER_PROMETHEUS: "off",
  KEYMETER_DRAIN_SECONDS: "1",
};
const up = spawn(process.execPath, [START, "up"], { env });
let said = "";
const isUp = new Promise<void>((resolve, reject) => {
  for (const stream of [up.stdout, up.stderr])
    stream.on("data", (chunk: Buffer) => {
      said += chunk.toString();
      if (said.includes("Ctrl-C stops it")) resolve();
    });
  up.once("exit", (code) => reject(new Error(`it ended with ${code}: ${said}`)));
});
await isUp;
const keys = spawn(process.execPath, [START, "keys", "create", "--name", "first"], { env });
let text = "";
keys.stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
await new Promise((resolve) => keys.once("close", resolve));
const answer = await fetch(`http://127.0.0.1:${ports["KEYMETER_PORT"]}/openai/v1/chat/completions`, {
  method: "POST",
  headers: { "content-type": "application/json", authorization: `Bearer ${/km_\w+/.exec(text)?.[0] ?? ""}` },
  body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [{ role: "user", content: "hi" }] }),
});
await answer.text();
const metrics = await (await fetch(`http://127.0.0.1:${ports["KEYMETER_OPS_PORT"]}/metrics`)).text();
const cost = /^keymeter_cost_usd_total\{[^}]*\} (\S+)$/m.exec(metrics)?.[1];
const ended = new Promise((resolve) => up.once("close", resolve));
up.kill("SIGTERM");
await ended;
process.stdout.write(JSON.stringify({ status: answer.status, cost, arrived: provider.journal.length }));
process.exit(0);
