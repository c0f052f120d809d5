// keymeter leak: the playbook for a provider key that leaked, and the note on it.
import { writeFileSync } from "node:fs";
import { createInterface } from "node:readline/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { sayInSlack } from "../alerts/ask.ts";
import { askCollector, describeLeak, LEAK_STEPS } from "../collector/ask.ts";
import type { LeakStep } from "../collector/ask.ts";
import { ENDS, readRotations } from "../ledger/billing/rotations.ts";
import type { Rotation } from "../ledger/billing/rotations.ts";
import { openBilling } from "../ledger/open.ts";
import { placeOf } from "../service/config.ts";
import { requireUsage } from "./books.ts";
import { pathOf } from "./asker.ts";
import { loadCommandConfig } from "./config.ts";
import { createProgress } from "./progress.ts";
import { bookedProvider } from "./providers.ts";
import { whoSays } from "./who.ts";
import { UsageError } from "./usage-error.ts";

export const USAGE = `keymeter leak PROVIDER KEY [--yes] [--without pause,replace,revoke] [--slack] [--out FILE]
  A provider key leaked: what holds it here is paused, another one takes its place, and it is taken away at the provider; what it
  cost, when, and what is left go into a note. KEY is the provider's id of it, as \`keymeter leaks\` says. Can be done again.
keymeter leak PROVIDER KEY --note [--slack] [--out FILE]     the note alone; nothing is changed

  PROVIDER     such as openai
  --without    steps to leave out, by commas
  --slack      posts the note where alerts are said`;

const WAIT_MS = 5 * 60_000;
/** A collector that runs has looked at it by then. */
const CARRIED_OUT_MS = 20_000;

export async function run(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      yes: { type: "boolean", default: false },
      note: { type: "boolean", default: false },
      without: { type: "string" },
      slack: { type: "boolean", default: false },
      out: { type: "string" },
    },
  });
  const [word, billedKey] = positionals;
  if (word === undefined || billedKey === undefined) throw new UsageError(USAGE);
  const provider = bookedProvider(word);
  const without = readSteps(values.without);
  if (!values.note) {
    const { plan } = await look(provider, billedKey, without);
    for (const one of plan) process.stdout.write(`${one}\n`);
    if (!values.yes && !(await isWanted())) {
      process.stderr.write("nothing was changed; --yes does it\n");
      process.exitCode = 1;
      return;
    }
    const by = whoSays();
    const said = await askCollector({ type: "leak", provider, billedKey, by, without });
    for (const one of said) process.stdout.write(`${one}\n`);
    await awaitRotation(said);
  }
  const { markdown } = await look(provider, billedKey, without);
  if (values.out === undefined) process.stdout.write(`\n${markdown}`);
  else {
    writeFileSync(pathOf(values.out), markdown);
    process.stdout.write(`The note is in ${values.out}.\n`);
  }
  if (!values.slack) return;
  const headline = `A provider key leaked: ${billedKey} of ${provider}`;
  const channel = await sayInSlack(headline, markdown, `leak-${provider}-${billedKey}-${Date.now()}`);
  process.stdout.write(`The note stands in ${channel}.\n`);
}

function readSteps(text: string | undefined): LeakStep[] {
  return (text ?? "")
    .split(",")
    .filter((one) => one !== "")
    .map((one) => {
      const step = LEAK_STEPS.find((known) => known === one);
      if (!step) throw new UsageError(`there is no step "${one}"; there are ${LEAK_STEPS.join(", ")}`);
      return step;
    });
}

async function look(
  provider: string,
  billedKey: string,
  without: readonly LeakStep[],
): ReturnType<typeof describeLeak> {
  const config = loadCommandConfig();
  const usage = await requireUsage(config);
  const billing = await openBilling(placeOf(config));
  if (!billing)
    throw new UsageError("no bill and no keys of a provider were read yet: the collector reads them with an admin key");
  try {
    return await describeLeak({ usage, billing }, provider, billedKey, without);
  } finally {
    await usage.close();
    await billing.close();
  }
}

async function isWanted(): Promise<boolean> {
  if (!process.stdin.isTTY) return false;
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  const answer = await terminal.question("Do it? [y/N] ");
  terminal.close();
  return /^y(es)?$/i.test(answer.trim());
}

/** Until the key is replaced, or waits for somebody; at most five minutes. */
async function awaitRotation(said: readonly string[]): Promise<void> {
  const id = said.flatMap((one) => /\b(rot_[0-9a-f]+)\b/.exec(one)?.[1] ?? [])[0];
  if (id === undefined) return;
  const config = loadCommandConfig();
  const progress = createProgress();
  const deadline = Date.now() + WAIT_MS;
  const carriedOutMs = Date.now() + CARRIED_OUT_MS;
  let rotation: Rotation | undefined;
  do {
    const billing = await openBilling(placeOf(config));
    rotation = billing && (await readRotations(billing)).find((one) => one.id === id);
    await billing?.close();
    if (!rotation || (ENDS as readonly string[]).includes(rotation.state) || rotation.state === "by_hand") break;
    if (rotation.state === "planned" && rotation.waitsFor === null && Date.now() > carriedOutMs) {
      progress.end();
      process.stderr.write(
        "No collector carries it out: start `keymeter up`, or `keymeter collector`. The old key goes on.\n",
      );
      process.exitCode = 1;
      return;
    }
    // Somebody makes the key.
    if (rotation.state === "planned" && rotation.waitsFor !== null && !rotation.isTrouble) break;
    progress.show(`${rotation.place}: ${rotation.state}${rotation.waitsFor === null ? "" : `, ${rotation.waitsFor}`}`);
    await sleep(1_000);
  } while (Date.now() < deadline);
  progress.end();
  if (rotation && rotation.state !== "revoked") process.exitCode = 1;
  if (rotation)
    process.stdout.write(
      `${rotation.place}: ${rotation.state}${rotation.waitsFor === null ? "" : `; it waits: ${rotation.waitsFor}`}\n`,
    );
}
