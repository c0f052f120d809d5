// The note on a leak for finance and for whoever asks later: what the key was, what it cost, what was done and when, what is
// left. As Markdown.
import { readUnmetered } from "../../ledger/billing/closed-days.ts";
import type { Unmetered } from "../../ledger/billing/closed-days.ts";
import { leakFacts, leakWords } from "../../ledger/billing/leak-steps.ts";
import { readRotations, readRotationSteps } from "../../ledger/billing/rotations.ts";
import type { RotationStep } from "../../ledger/billing/rotations.ts";
import { formatUsd } from "../../ledger/money.ts";
import { readKeyAddresses, readPaid } from "../../ledger/usage/credentials.ts";
import type { KeyAddress, Paid } from "../../ledger/usage/credentials.ts";
import { HOUR_MS } from "../../ledger/windows.ts";
import { actOnLeak, findLeaked } from "./playbook.ts";
import type { LeakContext, LeakedKey } from "./playbook.ts";

export type LeakNote = {
  readonly leaked: LeakedKey;
  readonly markdown: string;
  /** What it cost past Keymeter: what bills have so far, or what it would cost by the price list, whichever is more. */
  readonly damageNanoUsd: bigint | undefined;
};

/** Rejects with ChangeRefused where nothing is known of the key. */
export async function writeLeakNote(
  context: LeakContext,
  provider: string,
  billedKey: string,
  nowMs: number,
): Promise<LeakNote> {
  const { usage, billing } = context.books;
  const leaked = await findLeaked(context, provider, billedKey);
  const { leak, credential, key } = leaked;
  const billed = await readUnmetered(billing, provider, billedKey);
  const paid =
    credential === undefined || !leak
      ? undefined
      : await readPaid(usage, credential, leak.firstHourMs, leak.lastHourMs + HOUR_MS);
  const addresses = key ? await readKeyAddresses(usage, key.id) : [];
  const rotations = (await readRotations(billing)).filter(
    (one) => one.oldKeyId === billedKey || (credential !== undefined && one.oldCredential === credential),
  );
  const steps = (await Promise.all(rotations.map(({ id }) => readRotationSteps(billing, id)))).flat();
  const undone = await actOnLeak(context, { type: "leak", provider, billedKey, by: "", without: [] }, nowMs, true);
  const costs = [leak?.costNanoUsd, billed?.amountNanoUsd].filter((one) => one !== undefined);
  return {
    leaked,
    markdown: markdownOf(leaked, { billed, paid, addresses, steps, undone }, nowMs),
    damageNanoUsd: costs.length === 0 ? undefined : costs.reduce((most, one) => (one > most ? one : most)),
  };
}

type Known = {
  readonly billed: Unmetered | undefined;
  readonly paid: Paid | undefined;
  readonly addresses: readonly KeyAddress[];
  readonly steps: readonly RotationStep[];
  readonly undone: readonly string[];
};

function markdownOf(
  { provider, billedKey, shown, leak, credential, place, key }: LeakedKey,
  { billed, paid, addresses, steps, undone }: Known,
  nowMs: number,
): string {
  const name = shown
    ? ` "${plain(shown.name)}" ${plain(shown.hint)}${shown.project === undefined ? "" : ` in ${plain(shown.project)}`}`
    : "";
  const who = key
    ? `a client's own key, known here as ${plain(key.name)} (${key.id})`
    : place === undefined
      ? credential === undefined
        ? "a key that never came through Keymeter"
        : "a credential that Keymeter used before"
      : `what Keymeter keys are swapped for at ${place}`;
  const timeline = [
    ...(leak
      ? [
          [leak.firstHourMs, "first use past Keymeter (by the hour)"] as const,
          [leak.foundAtMs, "found by Keymeter"] as const,
          [leak.lastHourMs, "last use past Keymeter that was seen (by the hour)"] as const,
        ]
      : []),
    ...steps.map(({ atMs, said }) => [atMs, said] as const),
  ].toSorted(([a], [b]) => a - b);
  const money = [
    leak
      ? `- Past Keymeter: ${plain(leakFacts(leak, billed))}. ${leakWords(leak)}.`
      : "- No use past Keymeter was found.",
    billed
      ? `- Billed so far beyond what was metered: ${formatUsd(billed.amountNanoUsd)}; it grows until the bills of these days are closed.`
      : "- No bill has it yet: bills come a day or two later. This note can be made again then.",
    ...(paid
      ? [
          `- Through Keymeter in the same hours, which is no damage: ${formatUsd(paid.costNanoUsd)} in ${paid.requests} requests.`,
        ]
      : []),
  ];
  const seen = addresses
    .slice(0, MOST_ADDRESSES)
    .map(({ address, firstSeenMs, lastSeenMs }) => `- ${address}, ${iso(firstSeenMs)} to ${iso(lastSeenMs)}`);
  return [
    `# Leaked key: ${provider} ${plain(billedKey)}${name}`,
    `As of ${iso(nowMs)} UTC. It is ${who}.`,
    "## What it cost",
    money.join("\n"),
    "## What is not done yet",
    undone.map((one) => `- ${plain(one)}`).join("\n") || "- Nothing.",
    "## When",
    timeline.map(([atMs, said]) => `- ${iso(atMs)}  ${said}`).join("\n") || "- Nothing is written down yet.",
    ...(seen.length > 0 ? ["## From where it was used through Keymeter", seen.join("\n")] : []),
    "",
  ].join("\n\n");
}

/** Words that others chose, as words: no Markdown of theirs, no control characters. */
function plain(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}]/gu, " ").replaceAll(/[<>[\]*#|!]/g, (mark) => `\\${mark}`);
}

const MOST_ADDRESSES = 20;

function iso(ms: number): string {
  return new Date(ms).toISOString().slice(0, 16).replace("T", " ");
}
