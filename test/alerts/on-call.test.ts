// What somebody reads who is woken at three: how bad, since when, how much, the button that helps and no other, and
// what is left when it is over.
import { describe, expect, it } from "vitest";
import type { Figures } from "../../alerts/figures.ts";
import { buildMessage } from "../../alerts/message.ts";
import type { Standing } from "../../alerts/message.ts";
import { runbookPage } from "../../alerts/runbook-page.ts";
import { TEXTS } from "../../alerts/texts.ts";
import type { AlertGroup } from "../../alerts/webhook.ts";

const NOW_MS = Date.parse("2026-11-29T03:12:00Z");
const FIGURES: Figures = {
  asOfMs: NOW_MS,
  subject: "team search",
  window: "day",
  spentNanoUsd: 30_000_000_000n,
  forecast: {
    soFarNanoUsd: 2_000_000_000n,
    p10NanoUsd: 16_000_000_000n,
    p50NanoUsd: 20_000_000_000n,
    p90NanoUsd: 26_000_000_000n,
  },
  landing: undefined,
  budget: undefined,
  movers: [
    {
      id: "key_1",
      name: "nightly",
      team: "search",
      owner: "ana",
      costNanoUsd: 28_000_000_000n,
      overNanoUsd: 26_000_000_000n,
      isPaused: false,
    },
  ],
  topModel: { name: "claude-opus-4-6", costNanoUsd: 28_000_000_000n },
  hourNanoUsd: 9_500_000_000n,
  paused: [],
  asked: undefined,
  leak: undefined,
};
const STANDING: Standing = {
  links: { pagesUrl: "https://pages.example", grafanaUrl: undefined, runbookUrl: "https://pages.example/runbook" },
  buttons: { mayChange: true },
  acknowledged: undefined,
  command: "cd /srv/keymeter && npx keymeter",
  host: "meter-1",
  before: undefined,
};

function group(alertname: string, status: "firing" | "resolved" = "firing", labels: object = {}): AlertGroup {
  const all = { alertname, severity: "critical", scope: "team", id: "search", window: "day", ...labels };
  return {
    groupKey: "group",
    status,
    commonLabels: all,
    commonAnnotations: {},
    alerts: [{ status, labels: all, startsAt: "2026-11-29T03:00:00Z" }],
  } as unknown as AlertGroup;
}
const wordsOf = (...args: Parameters<typeof buildMessage>): string => JSON.stringify(buildMessage(...args).blocks);
const buttonsIn = (text: string): string[] =>
  [...text.matchAll(/"action_id":"keymeter_(\w+)"/g)].map(([, name]) => name ?? "");

describe("a message at three in the morning", () => {
  it("says how bad it is, since when, and what the last hour cost", () => {
    const text = wordsOf(group("KeymeterSpendOverForecast"), FIGURES, STANDING);
    expect(text).toContain("*Critical* · since 2026-11-29 03:00 UTC (12 min) · *$9.50* in the last hour");
  });

  it("has commands as they are typed on the machine that it names", () => {
    const text = wordsOf(group("KeymeterSpendOverForecast"), FIGURES, STANDING);
    expect(text).toContain("`cd /srv/keymeter &amp;&amp; npx keymeter keys pause key_1`");
    expect(text).toContain("Commands run on meter-1.");
    expect(text).not.toContain("`keymeter ");
  });

  it("links to the key's report page and to the anchor of the runbook, and to nothing that was not set", () => {
    const text = wordsOf(group("KeymeterSpendOverForecast"), FIGURES, STANDING);
    expect(text).toContain("<https://pages.example/key?id=key_1|Key>");
    expect(text).toContain("<https://pages.example/runbook#keymeterspendoverforecast|Runbook>");
    expect(text).not.toContain("|Dashboard>");
    const links = { pagesUrl: undefined, grafanaUrl: undefined, runbookUrl: undefined };
    expect(wordsOf(group("KeymeterSpendOverForecast"), FIGURES, { ...STANDING, links })).not.toMatch(/\|\w+>/);
  });

  it.each([
    ["KeymeterSpendOverForecast", ["acknowledge", "pause"]],
    ["KeymeterKeyUsedElsewhere", ["acknowledge"]],
    ["KeymeterProviderKeyRejected", ["acknowledge"]],
    ["KeymeterMeterSilent", ["acknowledge"]],
    ["KeymeterBillingStale", ["acknowledge"]],
    ["KeymeterUnallocatedSpend", ["acknowledge"]],
  ])("of %s has the buttons that help: %s", (alertname, expected) => {
    expect(buttonsIn(wordsOf(group(alertname), FIGURES, STANDING))).toEqual(expected);
  });

  it("of a budget offers to raise it, and to pause only where pausing helps", () => {
    const budget = {
      id: "bud_1",
      amountNanoUsd: 10_000_000_000n,
      spentNanoUsd: 9_400_000_000n,
      window: "day",
      startsMs: Date.parse("2026-11-29"),
      endsMs: Date.parse("2026-11-30"),
      kind: "hard",
      refused: 0,
    };
    const figures = { ...FIGURES, budget };
    expect(buttonsIn(wordsOf(group("KeymeterCapRefusing"), figures, STANDING))).toEqual(["acknowledge", "raise"]);
    expect(buttonsIn(wordsOf(group("KeymeterBudgetBurnFast"), figures, STANDING))).toEqual([
      "acknowledge",
      "pause",
      "raise",
    ]);
    // 9.50 an hour where 10 must last for 24.
    expect(buildMessage(group("KeymeterBudgetBurnFast"), figures, STANDING).headline).toBe(
      "The budget of team search burns 23 times too fast",
    );
  });

  it("says what is paused, and offers to resume it in place of pausing it again", () => {
    const figures = {
      ...FIGURES,
      movers: FIGURES.movers.map((mover) => ({ ...mover, isPaused: true })),
      paused: [{ id: "key_1", name: "nightly" }],
    };
    const text = wordsOf(group("KeymeterSpendOverForecast"), figures, STANDING);
    expect(text).toContain("*Paused* nightly (key_1)");
    expect(text).toContain("nightly (key_1, paused; team search, ana)");
    expect(buttonsIn(text)).toEqual(["acknowledge", "resume"]);
  });

  it("that is over says what it was, not what the figures are by then, and what is still paused", () => {
    const quiet = {
      ...FIGURES,
      spentNanoUsd: 500_000_000n,
      paused: [{ id: "key_1", name: "nightly" }],
    };
    const before = {
      postedAtMs: Date.parse("2026-11-29T03:00:00Z"),
      text: "Team search is heading 140 % ($28.00) over today's forecast. Critical",
    };
    const message = buildMessage(group("KeymeterSpendOverForecast", "resolved"), quiet, { ...STANDING, before });
    expect(message.headline).toBe("Resolved after 12 min: Team search is heading 140 % ($28.00) over today's forecast");
    expect(message.reminder).toBe("*Still paused* nightly (key_1)");
    expect(buttonsIn(JSON.stringify(message.blocks))).toEqual(["resume"]);
    // Said again, it does not say it twice.
    const again = buildMessage(group("KeymeterSpendOverForecast", "resolved"), quiet, {
      ...STANDING,
      before: { ...before, text: message.text },
    });
    expect(again.headline).toBe(message.headline);
  });

  it("of a leak carries what is known of it, and the steps", () => {
    const leak = {
      provider: "openai",
      billedKey: "key_1",
      facts: "Nothing was ever metered on this key: 400 tokens, about $12.34",
      steps: ["Make a new key.", "Swap <it>."],
    };
    const text = wordsOf(
      group("KeymeterKeyUsedElsewhere", "firing", { provider: "openai", billed_key: "key_abc" }),
      { ...FIGURES, leak },
      STANDING,
    );
    expect(text).toContain("about $12.34");
    expect(text).toContain("1. Make a new key.\\n2. Swap &lt;it&gt;.");
    expect(text).toContain("pausing a key here does not help");
    expect(text).toContain("npx keymeter leak openai key_1`");
    expect(text).toContain('"action_id":"keymeter_leak"');
    expect(text).not.toContain("nightly");
  });
});

describe("the runbook", () => {
  it("is a page on which every alert has an anchor", () => {
    const page = runbookPage();
    for (const alert of Object.keys(TEXTS)) expect(page).toContain(`<h2 id="${alert.toLowerCase()}">`);
    expect(page).toContain('<h2 id="keymeter-itself-is-down">');
  });
});
