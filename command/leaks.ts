// keymeter leaks: use of provider keys that did not come through the proxy, and what to do about each.
import { parseArgs } from "node:util";
import { askCollector } from "../collector/ask.ts";
import { readProviderKeys } from "../ledger/billing/bills.ts";
import type { ProviderKey } from "../ledger/billing/bills.ts";
import { readUnmetered } from "../ledger/billing/closed-days.ts";
import type { Unmetered } from "../ledger/billing/closed-days.ts";
import { readHints } from "../ledger/usage/hints.ts";
import { leakFacts, leakSteps, leakWords } from "../ledger/billing/leak-steps.ts";
import { isOpen, readLeaks } from "../ledger/billing/leaks.ts";
import type { Leak } from "../ledger/billing/leaks.ts";
import { openBilling } from "../ledger/open.ts";
import { readNames } from "../ledger/usage/key-use.ts";
import { toJson } from "../service/json.ts";
import { requireUsage } from "./books.ts";
import { loadCommandConfig } from "./config.ts";
import { bookedProvider } from "./providers.ts";
import { UsageError } from "./usage-error.ts";
import { placeOf } from "../service/config.ts";

export const USAGE = `keymeter leaks [--all] [--json]     keys that are used past the proxy, and what to do
keymeter leaks dismiss BILLED_KEY --why "our batch server" [--provider openai]     what was used up to now is no leak`;

export async function run(args: string[]): Promise<void> {
  if (args[0] === "dismiss") return dismiss(args.slice(1));
  const { values } = parseArgs({
    args,
    options: { all: { type: "boolean", default: false }, json: { type: "boolean", default: false } },
  });
  const config = loadCommandConfig();
  const usage = await requireUsage(config);
  const billing = await openBilling(placeOf(config));
  const all = billing ? await readLeaks(billing) : [];
  const leaks = values.all ? all : all.filter(isOpen);
  const keys = new Map<string, ProviderKey>();
  for (const provider of new Set(leaks.map((leak) => leak.provider)))
    for (const key of billing ? await readProviderKeys(billing, provider) : [])
      keys.set(`${provider} ${key.billedKey}`, key);
  const billed = new Map<Leak, Unmetered>();
  for (const leak of leaks) {
    const sum = billing ? await readUnmetered(billing, leak.provider, leak.billedKey) : undefined;
    if (sum) billed.set(leak, sum);
  }
  const hints = await readHints(usage, Date.now());
  const names = await readNames(usage);
  await usage.close();
  await billing?.close();
  if (leaks.some(isOpen)) process.exitCode = 1;
  if (values.json)
    return void process.stdout.write(
      `${toJson({ leaks: leaks.map((leak) => ({ ...leak, isOpen: isOpen(leak), billed: billed.get(leak) ?? null })), hints })}\n`,
    );
  if (leaks.length === 0)
    process.stdout.write("No use of a provider key is known that did not come through Keymeter.\n");
  for (const leak of leaks)
    process.stdout.write(describe(leak, keys.get(`${leak.provider} ${leak.billedKey}`), billed.get(leak)));
  if (hints.length > 0) {
    process.stdout.write("\nHints beside it (weak signs, of keys that are metered):\n");
    for (const { keyId, what } of hints) process.stdout.write(`  ${names.get(keyId) ?? keyId} (${keyId}): ${what}\n`);
  }
}

async function dismiss(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { why: { type: "string" }, provider: { type: "string" } },
  });
  const [billedKey] = positionals;
  if (billedKey === undefined || values.why === undefined) throw new UsageError(USAGE);
  const config = loadCommandConfig();
  const billing = await openBilling(placeOf(config));
  const of = (billing ? await readLeaks(billing) : []).filter((leak) => leak.billedKey === billedKey);
  await billing?.close();
  const provider = values.provider === undefined ? of[0]?.provider : bookedProvider(values.provider);
  if (provider === undefined) throw new UsageError(`there is no leak of ${billedKey}; \`keymeter leaks\` lists them`);
  if (values.provider === undefined && of.length > 1)
    throw new UsageError(
      `${billedKey} is a key of ${of.map((leak) => leak.provider).join(" and ")}; say which with --provider`,
    );
  for (const said of await askCollector({ type: "dismiss", provider, billedKey, why: values.why }))
    process.stdout.write(`${said}\n`);
}

/** The leak and the steps of the playbook: new key, swap, disable the old one, watch it for a day. */
function describe(leak: Leak, key: ProviderKey | undefined, billed: Unmetered | undefined): string {
  const name = key
    ? `${leak.billedKey} "${key.name}" ${key.hint}${key.project === undefined ? "" : ` in ${key.project}`}`
    : leak.billedKey;
  const steps = isOpen(leak)
    ? leakSteps(leak)
        .map((step, i) => `  ${i + 1}. ${step}\n`)
        .join("")
    : `  dismissed: ${leak.dismissedWhy ?? ""}\n`;
  return `${leak.provider} ${name}
  ${leakWords(leak)}
  ${leakFacts(leak, billed)}
${steps}`;
}
