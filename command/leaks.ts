// keymeter leaks: use of provider keys that did not come through the proxy, and what to do about each.
import { join } from "node:path";
import { parseArgs } from "node:util";
import { askCollector } from "../collector/main.ts";
import { readProviderKeys } from "../ledger/bills.ts";
import type { ProviderKey } from "../ledger/bills.ts";
import { readHints } from "../ledger/hints.ts";
import { isOpen, readLeaks } from "../ledger/leaks.ts";
import type { Leak } from "../ledger/leaks.ts";
import { formatUsd } from "../ledger/money.ts";
import { openForReading } from "../ledger/open.ts";
import { readKeyNames } from "../ledger/spend.ts";
import { toJson } from "../service/json.ts";
import { openUsage } from "./books.ts";
import { loadCommandConfig } from "./config.ts";
import { UsageError } from "./usage-error.ts";

export const USAGE = `keymeter leaks [--all] [--json]     keys that are used past the proxy, and what to do
keymeter leaks dismiss BILLED_KEY --why "our batch server" [--provider openai]     what was used up to now is no leak`;

export async function run(args: string[]): Promise<void> {
  if (args[0] === "dismiss") return dismiss(args.slice(1));
  const { values } = parseArgs({
    args,
    options: { all: { type: "boolean", default: false }, json: { type: "boolean", default: false } },
  });
  const config = loadCommandConfig();
  const usage = openUsage(config);
  const billing = openForReading(join(config.dataDir, "billing.db"));
  const all = billing ? await readLeaks(billing) : [];
  const leaks = values.all ? all : all.filter(isOpen);
  const keys = new Map<string, ProviderKey>();
  for (const provider of new Set(leaks.map((leak) => leak.provider)))
    for (const key of billing ? await readProviderKeys(billing, provider) : [])
      keys.set(`${provider} ${key.billedKey}`, key);
  const hints = await readHints(usage, Date.now());
  const names = await readKeyNames(usage);
  usage.close();
  billing?.close();
  if (leaks.some(isOpen)) process.exitCode = 1;
  if (values.json)
    return void process.stdout.write(
      `${toJson({ leaks: leaks.map((leak) => ({ ...leak, isOpen: isOpen(leak) })), hints })}\n`,
    );
  if (leaks.length === 0)
    process.stdout.write("No use of a provider key is known that did not come through Keymeter.\n");
  for (const leak of leaks) process.stdout.write(describe(leak, keys.get(`${leak.provider} ${leak.billedKey}`)));
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
  const billing = openForReading(join(config.dataDir, "billing.db"));
  const of = (billing ? await readLeaks(billing) : []).filter((leak) => leak.billedKey === billedKey);
  billing?.close();
  const provider = values.provider ?? of[0]?.provider;
  if (provider === undefined) throw new UsageError(`there is no leak of ${billedKey}; \`keymeter leaks\` lists them`);
  if (values.provider === undefined && of.length > 1)
    throw new UsageError(
      `${billedKey} is a key of ${of.map((leak) => leak.provider).join(" and ")}; say which with --provider`,
    );
  for (const said of await askCollector({ type: "dismiss", provider, billedKey, why: values.why }))
    process.stdout.write(`${said}\n`);
}

/** The leak and the steps of the playbook: new key, swap, disable the old one, watch it for a day. */
function describe(leak: Leak, key: ProviderKey | undefined): string {
  const name = key
    ? `${leak.billedKey} "${key.name}" ${key.hint}${key.project === undefined ? "" : ` in ${key.project}`}`
    : leak.billedKey;
  const worth =
    leak.costNanoUsd === undefined
      ? " (its model has no price here: look at the bill)"
      : `, about ${formatUsd(leak.costNanoUsd)}`;
  const what =
    leak.billedKey === "unmatched"
      ? "more is used on its keys than was metered; say which keys are ours under collector.billing_keys, and it names the one"
      : leak.kind === "unknown_key"
        ? "nothing was ever metered on this key: it is used past Keymeter, by you or by somebody else"
        : "more is used on this key than came through Keymeter: it is in other hands, or in a client that goes round";
  const steps = isOpen(leak)
    ? stepsOf(leak)
        .map((step, i) => `  ${i + 1}. ${step}\n`)
        .join("")
    : `  dismissed: ${leak.dismissedWhy ?? ""}\n`;
  return `${leak.provider} ${name}
  ${what}
  ${leak.quantity} ${leak.unit}${worth}; ${hour(leak.firstHourMs)} to ${hour(leak.lastHourMs + 3_600_000)} UTC, found ${hour(leak.foundAtMs)}${leak.models.length > 0 ? `; ${leak.models.join(", ")}` : ""}
${steps}`;
}

function stepsOf({ provider, billedKey, kind }: Leak): string[] {
  const dismissal = `If it is yours (a batch server, a notebook): \`keymeter leaks dismiss ${billedKey} --provider ${provider} --why "..."\`, and better point it at Keymeter.`;
  const watch = "Watch the old key for a day: this list shows whether it is still used.";
  const swap =
    kind === "unknown_key"
      ? "Find who uses it, and give them a Keymeter key instead (`keymeter keys create`)."
      : "Put the new key into the proxy's environment and restart it; `keymeter keys` of your clients stay as they are.";
  switch (provider) {
    case "openai":
      return [
        "Make a new key in the same project (Platform > API keys, or POST /v1/organization/projects/PROJECT/service_accounts/ACCOUNT/api_keys).",
        swap,
        `Delete the old one: DELETE /v1/organization/projects/PROJECT/api_keys/${billedKey} with the admin key. OpenAI cannot pause a key.`,
        watch,
        dismissal,
      ];
    case "anthropic":
      return [
        "Make a new key in the Console (there is no API for it).",
        swap,
        `Switch the old one off: POST /v1/organizations/api_keys/${billedKey} {"status":"inactive"} with the admin key.`,
        watch,
        dismissal,
      ];
    case "gcp.gemini":
      return [
        "Make a new key: POST https://apikeys.googleapis.com/v2/projects/PROJECT/locations/global/keys, restricted to generativelanguage.googleapis.com.",
        swap,
        `Delete the old one: DELETE https://apikeys.googleapis.com/v2/projects/PROJECT/locations/global/keys/${billedKey.replace(/^apikey:/, "")} (it can be restored for 30 days).`,
        watch,
        dismissal,
      ];
    default:
      return ["Make a new key at the provider.", swap, "Disable the old one.", watch, dismissal];
  }
}

function hour(ms: number): string {
  return new Date(ms).toISOString().slice(0, 16).replace("T", " ");
}
