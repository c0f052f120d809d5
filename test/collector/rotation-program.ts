// A program of a test that carries a rotation out and is killed: with SIGKILL, before or after a call to the provider or to
// the store, the nth time it comes there. Ends with 0 when the rotation is over,
// with 3 when it is not after a minute.
import { setTimeout as sleep } from "node:timers/promises";
import { loadCollectorConfig } from "../../collector/config.ts";
import { changeRotation } from "../../collector/rotation/change.ts";
import { rotateOn } from "../../collector/rotation/run.ts";
import { ENDS, readRotations } from "../../ledger/billing/rotations.ts";
import { openToWrite, openUsage } from "../../ledger/open.ts";
import { openSecrets } from "../../service/secrets/index.ts";
import { noOwnKeys, SILENT } from "./rotating.ts";

const { KILL_CALL: call, KILL_NTH: nth = "1", KILL_WHEN: when, GO_BACK_FROM: backFrom } = process.env;
let left = Number(nth);
const dieAt = (name: string, now: "before" | "after"): void => {
  if (name === call && now === when && --left === 0) process.kill(process.pid, "SIGKILL");
};

/** The same object, whose functions may be the last thing that happens. */
function deadly<T extends object>(of: T): T {
  return Object.fromEntries(
    Object.entries(of).map(([name, work]) => [
      name,
      async (...given: readonly unknown[]) => {
        dieAt(name, "before");
        const made = await (work as (...given: readonly unknown[]) => Promise<unknown>).apply(of, [...given]);
        dieAt(name, "after");
        return made;
      },
    ]),
  ) as T;
}

const config = loadCollectorConfig();
await openSecrets(config, SILENT);
const [settings] = config.rotations;
if (!settings) throw new Error("no rotation");
const { secret, place } = settings;
const staging = secret.staging.bind(secret);
secret.staging = () => deadly(staging());
const billing = await openToWrite(config.dataDir, "billing");
const usage = await openUsage(config.dataDir);
if (!usage) throw new Error("no books");
if ((await readRotations(billing)).length === 0)
  await changeRotation(
    { billing, usage },
    { type: "rotate", place, by: "somebody", why: "", isLeaked: false },
    Date.now(),
  );
const deadline = Date.now() + 60_000;
for (;;) {
  await rotateOn({
    books: { usage, billing },
    rotations: [{ ...settings, maker: deadly(settings.maker) }],
    ownKeys: noOwnKeys(config),
    audit: async () => undefined,
    log: SILENT,
    patience: { probePauseMs: 5, settleMs: 300 },
  });
  const [rotation] = await readRotations(billing);
  if (!rotation || (ENDS as readonly string[]).includes(rotation.state)) break;
  if (Date.now() > deadline) {
    process.stderr.write(`the rotation is ${rotation.state} after a minute, and waits for: ${rotation.waitsFor}\n`);
    process.exit(3);
  }
  if (rotation.state === backFrom)
    await changeRotation({ billing, usage }, { type: "rotateBack", place, by: "somebody" }, Date.now());
  await sleep(50);
}
await usage.close();
await billing.close();
process.exit(0);
