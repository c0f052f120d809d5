// What is said of a leak, and what to do about it, step by step: by the command, and in messages. Pure.
import type { Unmetered } from "./closed-days.ts";
import type { Leak } from "./leaks.ts";
import { formatUsd } from "../money.ts";
import { BUILT_IN } from "../providers.ts";

const HOUR_MS = 3_600_000;

/** What was seen, in a sentence. */
export function leakWords({ billedKey, kind }: Leak): string {
  if (billedKey === "unmatched")
    return "more is used on its keys than was metered; say which keys are ours under collector.billing_keys, and it names the one";
  return kind === "unknown_key"
    ? "nothing was ever metered on this key: it is used past Keymeter, by you or by somebody else"
    : "more is used on this key than came through Keymeter: it is in other hands, or in a client that goes round";
}

/** How much, since when, of which models; and what bills have of it in all. */
export function leakFacts(
  { quantity, unit, costNanoUsd, firstHourMs, lastHourMs, foundAtMs, models }: Leak,
  billed: Unmetered | undefined,
): string {
  const days =
    billed && (billed.firstDay === billed.lastDay ? billed.firstDay : `${billed.firstDay} to ${billed.lastDay}`);
  const all = billed ? `. Billed of it so far: ${formatUsd(billed.amountNanoUsd)} (${days})` : "";
  const worth =
    costNanoUsd === undefined
      ? " (its model has no price here: look at the bill)"
      : `, about ${formatUsd(costNanoUsd)}`;
  return `${quantity} ${unit}${worth}; ${hour(firstHourMs)} to ${hour(lastHourMs + HOUR_MS)} UTC, found ${hour(foundAtMs)}${models.length > 0 ? `; ${models.join(", ")}` : ""}${all}`;
}

/** New key, swap, old one off, watch it for a day; or: it is ours. */
export function leakSteps({ provider, billedKey, kind }: Pick<Leak, "provider" | "billedKey" | "kind">): string[] {
  const dismissal = `If it is yours (a batch server, a notebook): \`keymeter leaks dismiss ${billedKey} --provider ${provider} --why "..."\`, and better point it at Keymeter.`;
  const watch = "Watch the old key for a day: this list shows whether it is still used.";
  const swap =
    kind === "unknown_key"
      ? "Find who uses it, and give them a Keymeter key instead (`keymeter keys create`)."
      : "Put the new key where the proxy reads it (its store, or its environment and a restart); Keymeter keys of your clients stay as they are.";
  const care = BUILT_IN.find(provider)?.keyCare;
  return [
    care?.makeNew ?? "Make a new key at the provider.",
    swap,
    care?.switchOff(billedKey) ?? "Disable the old one.",
    watch,
    dismissal,
  ];
}

function hour(ms: number): string {
  return new Date(ms).toISOString().slice(0, 16).replace("T", " ");
}
