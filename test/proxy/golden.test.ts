// The golden table: answers as providers send them, through the proxy, against money worked out by hand.
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { json } from "../fake/provider.ts";
import { withProxy } from "../with-proxy.ts";

type Row = {
  readonly case: string;
  readonly dialect: "openai" | "anthropic" | "google";
  readonly path: string;
  readonly request: object;
  readonly headers?: { readonly [name: string]: string };
  readonly answer: object;
  readonly sum: string;
  readonly nanoUsd: string;
  readonly confidence: string | null;
  /** Absent: reported. */
  readonly state?: string;
  readonly source: string;
};

const ROWS: readonly Row[] = readFileSync(new URL("../fixtures/golden.jsonl", import.meta.url), "utf8")
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line) as Row);
const PREFIX = { openai: "/openai/v1", anthropic: "/anthropic/v1", google: "/google/v1beta" };

const bench = withProxy(() => {}, { KEYMETER_DURABILITY: "process" });

it("has at least 200 rows, each with its source and an arithmetic that gives its figure", () => {
  expect(ROWS.length).toBeGreaterThanOrEqual(200);
  for (const row of ROWS) {
    expect(row.source, row.case).toMatch(/^https:\/\//);
    expect(byHand(row.sum).toString(), row.case).toBe(row.nanoUsd);
  }
});

it.each(ROWS)("$case", async (row) => {
  bench.provider.script = json(row.answer);
  const answer = await fetch(bench.running.url + PREFIX[row.dialect] + row.path, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: "Bearer sk-test-golden-client-key", ...row.headers },
    body: JSON.stringify(row.request),
  });
  expect(answer.status).toBe(200);
  const event = (await bench.running.events()).at(-1);
  expect({ cost: event?.costNanoUsd, confidence: event?.priceConfidence, state: event?.usageState }).toEqual({
    cost: row.nanoUsd,
    confidence: row.confidence,
    state: row.state ?? "reported",
  });
  if (row.nanoUsd !== "0") expect(answer.headers.get("x-keymeter-cost-usd")).not.toBeNull();
});

/** "1000*0.15 + 300*0.6*5/3": USD per million times tokens is micro-USD; each term to nano-USD, half up. Decimals as
 *  fractions of whole numbers, apart from the product's own arithmetic. */
function byHand(sum: string): bigint {
  if (sum === "0") return 0n;
  return sum.split(" + ").reduce((total, term) => {
    let numerator = 1_000n;
    let denominator = 1n;
    for (const factor of term.split("*")) {
      const [above = "", below = "1"] = factor.split("/");
      const [whole = "", fraction = ""] = above.split(".");
      numerator *= BigInt(whole + fraction);
      denominator *= 10n ** BigInt(fraction.length) * BigInt(below);
    }
    return total + (2n * numerator + denominator) / (2n * denominator);
  }, 0n);
}
