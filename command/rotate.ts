// keymeter rotate: a provider key, or a key of Keymeter's, is replaced by another one, and how that goes.
import { parseArgs } from "node:util";
import {
  askCollector,
  findRotation,
  handInKey,
  planRotation,
  reportRotations,
  requireOwnKeyRotation,
} from "../collector/ask.ts";
import { ENDS } from "../ledger/billing/rotations.ts";
import type { Rotation } from "../ledger/billing/rotations.ts";
import { openBilling } from "../ledger/open.ts";
import { placeOf } from "../service/config.ts";
import { toJson } from "../service/json.ts";
import { requireUsage } from "./books.ts";
import { loadCommandConfig } from "./config.ts";
import { formatTable } from "./table.ts";
import { whoSays } from "./who.ts";
import { UsageError } from "./usage-error.ts";

export const USAGE = `keymeter rotate PROVIDER [--credential NAME] [--why "..."] [--leaked] [--dry-run]     a new key is made, and the old one goes when nothing uses it
keymeter rotate status [--json]     which rotations go on, and what each waits for
keymeter rotate accept PROVIDER [--credential NAME] [--leaked] < FILE     the new key was made by hand
keymeter rotate back PROVIDER [--credential NAME]     the old key again; possible until it is deleted
keymeter rotate done PROVIDER [--credential NAME]     somebody has deleted the old key

  PROVIDER     such as openai; openai/staging of several credentials; key:NAME of a Keymeter key under collector.key_rotation
  --leaked     the old key goes at once: nothing waits until it is unused`;

const WORDS = ["status", "accept", "back", "done"] as const;
type Word = (typeof WORDS)[number];

/** No key is longer. */
const MOST_KEY_LENGTH = 16 * 1024;
const MOST_ENDED = 5;

export async function run(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      credential: { type: "string" },
      why: { type: "string" },
      leaked: { type: "boolean", default: false },
      "dry-run": { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    },
  });
  const word = WORDS.find((one): one is Word => one === positionals[0]);
  if (word === "status") return printStatus(values.json);
  const named = positionals[word === undefined ? 0 : 1];
  if (named === undefined) throw new UsageError(USAGE);
  if (named.startsWith("key:")) {
    if (word === "done") return say(await askCollector({ type: "rotateDone", place: named, by: whoSays() }));
    if (word !== undefined || values.leaked || values["dry-run"])
      throw new UsageError(
        `${named} is a key of Keymeter's: it begins here, and \`rotate done\` ends what cannot go on. When it leaked: \`keymeter keys pause\``,
      );
    requireOwnKeyRotation(named);
    return say(
      await askCollector({
        type: "rotate",
        place: named,
        by: whoSays(),
        why: values.why ?? "",
        isLeaked: false,
      }),
    );
  }
  const [provider = "", credential = values.credential ?? ""] = named.split("/");
  const settings = await findRotation(provider, credential);
  const { place } = settings;
  const by = whoSays();
  const isLeaked = values.leaked;
  switch (word) {
    case "accept":
      return say(
        await handInKey(settings, await readKey(), (key) =>
          askCollector({ type: "accept", place, by, isLeaked, ...key }),
        ),
      );
    case "back":
      return say(await askCollector({ type: "rotateBack", place, by }));
    case "done":
      return say(await askCollector({ type: "rotateDone", place, by }));
    case undefined:
      if (values["dry-run"]) return say(await planRotation(settings, isLeaked));
      return say(await askCollector({ type: "rotate", place, by, why: values.why ?? "", isLeaked }));
  }
}

/** The key that somebody made, from the standard input. */
async function readKey(): Promise<string> {
  if (process.stdin.isTTY) process.stderr.write("Paste the new key, then Enter and Ctrl-D:\n");
  let text = "";
  for await (const chunk of process.stdin.setEncoding("utf8")) {
    text += String(chunk);
    if (text.length > MOST_KEY_LENGTH) throw new UsageError("what stands there is too long for a key");
  }
  const value = text.trim();
  // A service account's key file has many lines.
  if (value === "" || (/\s/.test(value) && !value.startsWith("{")))
    throw new UsageError("what stands there is no key: one word on one line");
  return value;
}

async function printStatus(isJson: boolean): Promise<void> {
  const config = loadCommandConfig();
  const usage = await requireUsage(config);
  const billing = await openBilling(placeOf(config));
  const report = await reportRotations(usage, billing);
  await usage.close();
  await billing?.close();
  const { credentials, rotations } = report;
  const isOpen = ({ state }: Rotation): boolean => !(ENDS as readonly string[]).includes(state);
  if (rotations.some((one) => isOpen(one) && one.isTrouble)) process.exitCode = 1;
  if (isJson) return void process.stdout.write(`${toJson(report)}\n`);
  const cells = credentials.map(({ place, hint, sinceMs, dueMs, isUnknown }) => [
    place,
    isUnknown ? "no such key: keymeter keys list" : hint === undefined ? "not used yet" : `…${hint}`,
    sinceMs === undefined ? "" : iso(sinceMs),
    dueMs === undefined ? "" : iso(dueMs),
  ]);
  process.stdout.write(
    cells.length > 0
      ? `${formatTable(["credential", "key", "since (UTC)", "due (UTC)"], cells)}\n`
      : "collector.rotation in keymeter.yaml names no credential (docs/rotation.md).\n",
  );
  for (const one of rotations.filter(isOpen)) {
    process.stdout.write(`\n${one.id}, ${one.place}: ${one.state} since ${iso(one.enteredAtMs)} UTC\n`);
    for (const { atMs, said } of one.steps) process.stdout.write(`  ${iso(atMs)}  ${said}\n`);
    if (one.waitsFor !== null) process.stdout.write(`  ${one.isTrouble ? "TROUBLE" : "waits"}: ${one.waitsFor}\n`);
  }
  const last = rotations.filter((one) => !isOpen(one)).slice(0, MOST_ENDED);
  if (last.length > 0) process.stdout.write("\n");
  for (const one of last) process.stdout.write(`${one.id}, ${one.place}: ${one.state} ${iso(one.enteredAtMs)} UTC\n`);
}

function say(sentences: readonly string[]): void {
  for (const sentence of sentences) process.stdout.write(`${sentence}\n`);
}

function iso(ms: number): string {
  return new Date(ms).toISOString().slice(0, 16).replace("T", " ");
}
