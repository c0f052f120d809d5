// What is known of each alert, an entry each: its headline, what to do first, which buttons help, and what it is about.
// The runbook has the rest, under the alert's own name. Pure.
import { formatUsd } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";
import { HOUR_MS } from "../ledger/windows.ts";
import type { Labels } from "./expression.ts";
import type { Figures } from "./figures.ts";

type Text = {
  readonly headline: (figures: Figures, labels: Labels) => string;
  readonly action: (figures: Figures) => string;
  /** What a press can do about it. Absent: nothing that a button does helps. */
  readonly helps?: readonly ("pause" | "raise" | "answer")[];
  /** The labels that say what it is about, where that is bills, keys or Keymeter itself. Absent: figures of spend
   *  belong to it. */
  readonly about?: readonly string[];
  /** The report page that has more. Absent: the overview, or the key's where it is about keys. */
  readonly page?: "bills";
};

/** Undefined: an alert that is not of these rules. */
export function textOf(alert: string): Text | undefined {
  return Object.hasOwn(TEXTS, alert) ? TEXTS[alert] : undefined;
}

/** Whether an alert is about bills, keys or Keymeter itself, and no figures of spend belong to it. */
export function isAboutNoSpend(alert: string): boolean {
  return textOf(alert)?.about !== undefined;
}

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);
const who = ({ subject }: Figures): string => capital(subject);
const topKey = ({ movers }: Figures): string => movers[0]?.id ?? "KEY";
const period = ({ window }: Figures): string => (window === "month" ? "this month's" : "today's");
const of = (labels: Labels, label: string, otherwise: string): string => labels[label] ?? otherwise;

const overForecastHeadline = (figures: Figures): string => {
  const over = overForecast(figures);
  return over
    ? `${who(figures)} is heading ${over.percent} % (${formatUsd(over.amount)}) over ${period(figures)} forecast`
    : `${who(figures)} is over ${period(figures)} forecast`;
};
const used = (figures: Figures): string => {
  const { budget } = figures;
  return budget
    ? `${who(figures)} has used ${share(budget.spentNanoUsd, budget.amountNanoUsd)} % of its ${budget.window} budget`
    : `${who(figures)} has used much of a budget`;
};
const pauseOrPlan = (figures: Figures): string =>
  `Ask the owner of the top key whether this is planned (then \`keymeter forecast plan\` makes it quiet); if not, \`keymeter keys pause ${topKey(figures)}\` stops it within a second.`;

export const TEXTS: { readonly [alert: string]: Text } = {
  KeymeterSpendOverForecast: { headline: overForecastHeadline, action: pauseOrPlan, helps: ["pause"] },
  KeymeterSpendFarOverForecast: { headline: overForecastHeadline, action: pauseOrPlan, helps: ["pause"] },
  KeymeterMonthOverForecast: {
    headline: overForecastHeadline,
    action: () =>
      "Compare `keymeter spend --by model --since month` with last month; tell whoever owns the budget where it will land.",
  },
  KeymeterKeyOverForecast: { headline: overForecastHeadline, action: pauseOrPlan, helps: ["pause"] },
  KeymeterKeySpike: {
    helps: ["pause"],
    headline: (figures) => `${who(figures)} spends more in one hour than in any of the last seven days`,
    action: (figures) =>
      `\`keymeter events --key ${topKey(figures)} --limit 20\`: the same request again and again is a loop. \`keymeter keys pause ${topKey(figures)}\` stops it within a second.`,
  },
  KeymeterKeyIdleThenActive: {
    helps: ["pause"],
    headline: (figures) => `${who(figures)} was silent for long, and spends again`,
    action: (figures) =>
      `Ask the owner. Nobody knows: \`keymeter keys rotate ${topKey(figures)}\`, and give the new secret to the owner only.`,
  },
  KeymeterUnallocatedSpend: {
    headline: () => "A part of today's spend belongs to no team",
    action: () => "`keymeter spend --by key --since today`, then `keymeter keys set KEY --team TEAM`.",
  },
  KeymeterForecastErrorHigh: {
    about: ["scope", "window"],
    headline: (_figures, labels) => `Forecasts of the ${of(labels, "scope", "day")} have been far off`,
    action: () => "`keymeter forecast scores` says which; a budget is the better alarm for spend that comes in bursts.",
  },
  KeymeterForecastBandPoor: {
    about: ["scope", "window"],
    headline: (_figures, labels) => `The forecast's band of the ${of(labels, "scope", "day")} holds too few days`,
    action: () => "`keymeter forecast scores` says which.",
  },
  KeymeterBudgetThreshold: {
    helps: ["raise"],
    headline: used,
    action: () =>
      "Compare with the date; raise the budget for a while with `keymeter budgets raise`, or tell the team what happens when it is used up.",
  },
  KeymeterRaiseAsked: {
    helps: ["answer"],
    headline: ({ asked, subject }) =>
      asked
        ? `${asked.keyName} asks for ${formatUsd(asked.amountNanoUsd)} more for ${subject}: ${asked.why}`
        : `Somebody asks for more for ${subject}`,
    action: ({ asked }) =>
      `\`keymeter asks list\` shows what is spent and what was refused; \`keymeter asks approve ${asked?.id ?? "ASK"}\` raises the budget until its window ends, \`keymeter asks refuse\` answers no.`,
  },
  KeymeterBudgetExhausted: {
    helps: ["raise"],
    headline: used,
    action: ({ budget }) =>
      budget?.kind === "hard"
        ? "Requests are refused from now on. Raise it with `keymeter budgets raise`, or leave it."
        : "It is soft: the overspend goes on. Raise it, or make it hard with `keymeter budgets set ... --hard`.",
  },
  KeymeterBudgetLandingOver: {
    helps: ["pause", "raise"],
    headline: (figures) => `${who(figures)} will overspend its ${figures.budget?.window ?? ""} budget`,
    action: () => "Tell whoever owns it, and decide: raise, spend less, or cap.",
  },
  KeymeterBudgetBurnFast: {
    helps: ["pause", "raise"],
    headline: (figures) => `The budget of ${figures.subject} burns ${timesTooFast(figures)} too fast`,
    action: pauseOrPlan,
  },
  KeymeterBudgetBurnSlow: {
    helps: ["pause", "raise"],
    headline: (figures) => `The budget of ${figures.subject} has burned too fast for hours`,
    action: () => "Compare models and tokens per request with last week: `keymeter spend --by model --since 7d`.",
  },
  KeymeterBudgetBurnDrift: {
    headline: (figures) => `The budget of ${figures.subject} has burned too fast for days`,
    action: () => "Nothing tonight; bring it to the next cost review.",
  },
  KeymeterCapRefusing: {
    helps: ["raise"],
    headline: (figures) => `The cap of ${figures.subject} refuses requests`,
    action: () =>
      "Tell the team that its requests are refused; raise the budget for a while with `keymeter budgets raise`, for good with `keymeter budgets set`, or leave it.",
  },
  KeymeterCapFailing: {
    helps: ["pause"],
    headline: (figures) => `Spend of ${figures.subject} goes on past its cap`,
    action: () =>
      "Stop the key at the provider, then look for the way round: `keymeter events --limit 50`, `keymeter verify`.",
  },
  KeymeterKeyUsedElsewhere: {
    about: ["provider", "billed_key"],
    page: "bills",
    headline: () => "A provider key is used past Keymeter: it may have leaked",
    action: ({ leak }) =>
      leak
        ? `pausing a key here does not help. \`keymeter leak ${leak.provider} ${leak.billedKey}\` does what a program can of this, and says what is left:\n${leak.steps.map((step, i) => `${i + 1}. ${step}`).join("\n")}`
        : "`keymeter leaks` names it, `keymeter leak PROVIDER KEY` replaces it and takes it away. If it is yours: `keymeter leaks dismiss KEY --why ...`.",
  },
  KeymeterUnmeteredSpend: {
    about: ["provider"],
    page: "bills",
    headline: () => "A bill holds money for what never passed Keymeter",
    action: () =>
      "`keymeter reconcile --since 7d --all` names it; move whoever holds that provider key behind the proxy.",
  },
  KeymeterReconciliationVariance: {
    about: ["provider"],
    page: "bills",
    headline: () => "A bill and the meter disagree about a day",
    action: () => "`keymeter reconcile --since 3d --all` has each difference with its cause.",
  },
  KeymeterPriceDiffers: {
    about: ["provider", "model", "unit"],
    page: "bills",
    headline: () => "A provider bills another price than is metered",
    action: () =>
      "`keymeter reconcile --since 7d --all` shows both prices; give the right one under `proxy.prices` or `proxy.discounts` in keymeter.yaml.",
  },
  KeymeterBillingStale: {
    about: ["provider"],
    page: "bills",
    headline: () => "A provider's bill could not be read for a day",
    action: () => "Read the collector's log; usually an admin key expired.",
  },
  KeymeterDaysOpen: {
    about: ["provider"],
    page: "bills",
    headline: () => "A provider's days have not closed for two weeks",
    action: () => "`keymeter close DAY` says why a day cannot be closed.",
  },
  KeymeterUnpricedModel: {
    about: ["provider", "model"],
    headline: () => "A model without a price is in use",
    action: () => "Add the model's price under `proxy.prices` in keymeter.yaml; until then spend is counted too low.",
  },
  KeymeterPriceListOld: {
    about: [],
    headline: () => "The price list is three months old",
    action: () => "`keymeter collector --once prices` fetches a new one.",
  },
  KeymeterMeterSilent: {
    about: ["job", "instance"],
    headline: () => "Keymeter's own meter is down or stale",
    action: () => "Look at `/readyz` of the proxy and the collector; money alerts are held back meanwhile.",
  },
  KeymeterLedgerFailing: {
    about: ["instance"],
    headline: () => "The ledger cannot commit, and the proxy admits nothing",
    action: () => "`df -h`, and `/readyz` of the proxy, which says why.",
  },
  KeymeterNotifierFailing: {
    about: [],
    headline: () => "Messages wait for Slack",
    action: () => "`keymeter doctor slack` names what is wrong.",
  },
  KeymeterDeliveriesUnsigned: {
    about: [],
    headline: () => "Alerts arrive without the webhook's token",
    action: () => "Give Alertmanager the file `webhook-token` of the data folder, as alerts/alertmanager.yaml does.",
  },
  KeymeterStatedCostDiffers: {
    about: ["provider", "model"],
    headline: (_figures, labels) =>
      `${of(labels, "provider", "A provider")} states other costs than our prices come to`,
    action: () => "`keymeter prices check` shows by how much; the stated cost is what was booked.",
  },
  KeymeterProviderKeyRejected: {
    about: ["provider"],
    headline: (_figures, labels) => `${of(labels, "provider", "A provider")} refuses Keymeter's own key`,
    action: () =>
      "Look at the provider's console: revoked, or no credit? Put a working key into the proxy's environment and restart it.",
  },
  KeymeterSecretStale: {
    about: ["secret"],
    headline: (_figures, labels) => `${of(labels, "secret", "A secret")} cannot be read from its store`,
    action: () =>
      "`keymeter doctor` says why: the store is away or sealed, or does not let us. The last good value goes on; one that was never read answers 503.",
  },
  KeymeterRotationStuck: {
    about: ["credential"],
    headline: (_figures, labels) => `The rotation of ${of(labels, "credential", "a provider key")} needs somebody`,
    action: () => "`keymeter rotate status` says what it waits for. The old key goes on working meanwhile.",
  },
  KeymeterCredentialDue: {
    about: ["credential"],
    headline: (_figures, labels) => `${of(labels, "credential", "A provider key")} is to be replaced`,
    action: () =>
      "`keymeter rotate status` says how old it is; `keymeter rotate PROVIDER` begins, or says what to do by hand.",
  },
  KeymeterProviderErrors: {
    about: ["provider"],
    headline: (_figures, labels) => `${of(labels, "provider", "A provider")} fails more than a quarter of the requests`,
    action: () => "Look at the provider's status page; `keymeter events --limit 20` shows what it answers.",
  },
  KeymeterKeyTooOld: {
    about: ["id", "team"],
    headline: () => "The secret of a key in use is too old",
    action: () => "`keymeter keys rotate KEY`: the old secret works for a day, so that nobody has to hurry.",
  },
  KeymeterWorkPending: {
    about: ["provider"],
    headline: () => "The result of a batch or background response has not been fetched for more than a day",
    action: () => "`keymeter work list` names it; fetch its result through Keymeter with the key that began it.",
  },
};

/** "18 times": the last hour against what the budget has for an hour. */
function timesTooFast({ budget, hourNanoUsd }: Figures): string {
  const hours = budget && (budget.endsMs - budget.startsMs) / HOUR_MS;
  if (!budget || !hours || hourNanoUsd === undefined || budget.amountNanoUsd <= 0n) return "many times";
  const times = (Number(hourNanoUsd) * hours) / Number(budget.amountNanoUsd);
  return times < 2 ? "much" : `${Math.round(times)} times`;
}

/** How far a window is ahead of its forecast: of the whole window's. */
export function overForecast({ spentNanoUsd, forecast }: Figures): { amount: NanoUsd; percent: number } | undefined {
  if (spentNanoUsd === undefined || forecast === undefined || forecast.p50NanoUsd <= 0n) return undefined;
  const amount = spentNanoUsd - forecast.soFarNanoUsd;
  return { amount, percent: share(amount, forecast.p50NanoUsd) };
}

export function share(part: NanoUsd, whole: NanoUsd): number {
  return whole === 0n ? 0 : Math.round(Number((part * 1000n) / whole) / 10);
}
