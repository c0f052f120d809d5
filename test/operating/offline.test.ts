// Without any network but loopback, in a network namespace of its own: a whole Keymeter starts, meters and knows prices, and no
// program of it even tries to reach anybody. Only the addresses of the settings are ever asked.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { IS_CI } from "../seed.ts";
import { noteSkipped } from "../skipped.ts";
import { temporaryFolder } from "../start-proxy.ts";

const PROGRAM = fileURLToPath(new URL("offline-program.ts", import.meta.url));
const LOOPBACK = "ip link set lo up && command -v strace";
const canDo = IS_CI && spawnSync("unshare", ["-rn", "sh", "-c", LOOPBACK]).status === 0;
if (!canDo)
  noteSkipped(
    IS_CI
      ? "no network namespace, ip or strace: Keymeter without a network"
      : "Keymeter without a network: runs with CI=true",
  );

describe.skipIf(!canDo)("without a network", () => {
  it("a request is metered and priced, and no program tries to reach another machine", { timeout: 240_000 }, () => {
    const folder = temporaryFolder();
    const trace = join(folder, "connects");
    const traced = `${LOOPBACK} >/dev/null && exec strace -f -qq -e trace=connect,sendto,sendmsg -o ${trace} ${process.execPath} ${PROGRAM}`;
    const env = { PATH: process.env["PATH"], HOME: folder, KEYMETER_DATA_DIR: join(folder, "data") };
    const ran = spawnSync("unshare", ["-rn", "sh", "-c", traced], { env, encoding: "utf8" });
    expect(ran.status, ran.stderr).toBe(0);
    const { status, cost, arrived } = JSON.parse(ran.stdout) as { status: number; cost?: string; arrived: number };
    expect([status, arrived]).toEqual([200, 1]);
    expect(Number(cost)).toBeGreaterThan(0);
    // What a program asked for, whether it could be had or not; sockets of this machine apart.
    const asked = readFileSync(trace, "utf8").matchAll(/sin6?_addr=inet_(?:addr|pton)\((?:AF_INET6, )?"([^"]+)"/g);
    const addresses = new Set([...asked].map(([, address]) => address));
    expect([...addresses]).toEqual(["127.0.0.1"]);
  });
});
