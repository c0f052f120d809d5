// `npm run demo`, as a newcomer runs it, on ports of its own: the leak, the forecast alert (with the real Prometheus where it is
// installed), the cap, and books that agree with the provider's to the nano-dollar.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { freePorts } from "../free-ports.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { hasPrometheus } from "../tools.ts";

const START = fileURLToPath(new URL("../../start.mjs", import.meta.url));

it("the demo shows everything and ends with books that agree", async () => {
  const folder = temporaryFolder();
  const child = spawn(process.execPath, [START, "demo"], {
    cwd: folder,
    env: { PATH: process.env["PATH"], HOME: folder, KEYMETER_DATA_DIR: join(folder, "demo"), ...(await freePorts()) },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let text = "";
  child.stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (text += chunk.toString()));
  const code = await new Promise((resolve) => child.once("exit", resolve));
  expect(code, text).toBe(0);
  expect(text).toContain("They are equal, to the nano-dollar.");
  expect(text).toMatch(/\d+ refused by the cap, 0 failed/);
  expect(text).toContain(hasPrometheus ? "Team search is heading" : "The alert step was not run");
}, 300_000);
