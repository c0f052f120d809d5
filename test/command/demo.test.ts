// `npm run demo`, as a newcomer runs it: the leak, the alert (by the real Prometheus where it is installed, else by
// Keymeter's own rules), the message as Slack shows it, the cap, the bill that disagrees and why, and books that agree
// with the provider's to the nano-dollar.
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { createServer } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { freePorts } from "../free-ports.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { isTurnOf } from "../skipped.ts";

const START = fileURLToPath(new URL("../../start.mjs", import.meta.url));

type Demo = { readonly child: ChildProcess; readonly text: () => string; readonly exit: Promise<number | null> };

function startDemo(ports: { readonly [name: string]: string }): Demo {
  const folder = temporaryFolder();
  const child = spawn(process.execPath, [START, "demo"], {
    cwd: folder,
    env: { PATH: process.env["PATH"], HOME: folder, KEYMETER_DATA_DIR: join(folder, "demo"), ...ports },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let text = "";
  child.stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (text += chunk.toString()));
  return { child, text: () => text, exit: new Promise((resolve) => child.once("exit", resolve)) };
}

it.skipIf(!isTurnOf(0, 4, "the demo"))(
  "the demo shows everything and ends with books that agree",
  async () => {
    const { text, exit } = startDemo(await freePorts());
    await expect.poll(text, { timeout: 60_000 }).toContain("Running. Open while it works");
    const slackUrl = /Slack +(http:\S+)/.exec(text())?.[1] ?? "";
    // Which of the two passes its line first is a matter of seconds; they are one message.
    await expect.poll(text, { timeout: 200_000 }).toMatch(/(Team search|Project agent-nightly) is heading/);
    // The message as Slack shows it, and its picture.
    await expect.poll(async () => (await fetch(slackUrl)).text(), { timeout: 30_000 }).toContain("<img src=");
    const page = await (await fetch(slackUrl)).text();
    expect(page).toContain("Commands run on");
    const picture = await fetch(new URL(/<img src="([^"]+)"/.exec(page)?.[1] ?? "", slackUrl));
    expect(
      Buffer.from(await picture.arrayBuffer())
        .subarray(1, 4)
        .toString(),
    ).toBe("PNG");
    expect(await exit, text()).toBe(0);
    for (const part of [
      /The cap closes; the leaking client reads: Keymeter: the request does not fit the month budget of key search-agent-nightly/,
      /\d+ refused by the cap, 0 failed/,
      /more \(unmetered key \$[\d.]+\)/,
      /A provider key is used past Keymeter: it may have leaked/,
      /They are equal, to the nano-dollar\./,
    ])
      expect(text()).toMatch(part);
  },
  300_000,
);

it.skipIf(!isTurnOf(0, 4, "the demo beside another Keymeter"))(
  "the demo runs beside a Keymeter that has the usual ports, and Ctrl-C ends it",
  async () => {
    // Taken by somebody else already is as good.
    const taken = createServer();
    await new Promise<void>((resolve) =>
      taken.once("error", () => resolve()).listen(4000, "127.0.0.1", () => resolve()),
    );
    const { child, text, exit } = startDemo({ KEYMETER_PROMETHEUS: "off" });
    await expect.poll(text, { timeout: 60_000 }).toContain("Running. Open while it works");
    child.kill("SIGINT");
    expect(
      await Promise.race([exit, new Promise((resolve) => setTimeout(() => resolve("goes on"), 30_000).unref())]),
    ).toBe(130);
    expect(text()).not.toMatch(/^ {4}at /m);
    taken.close();
  },
  120_000,
);
