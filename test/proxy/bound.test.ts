// How tight a strict bound is: beside the most that a provider can bill for a request, by prices of the golden table,
// worked out here.
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { parseUsd } from "../../ledger/money.ts";
import { chatAnswer, json } from "../fake/provider.ts";
import { withProxy } from "../with-proxy.ts";

type Row = {
  readonly case: string;
  readonly dialect: string;
  readonly path: string;
  readonly request: object;
  readonly sum: string;
};

const PREFIX: { readonly [dialect: string]: string } = {
  openai: "/openai/v1",
  anthropic: "/anthropic/v1",
  google: "/google/v1beta",
};
/** A sum of tokens in and tokens out alone, at the two prices that a golden row names. */
const PLAIN = /^(\d+)\*([\d.]+) \+ \d+\*([\d.]+)$/;
const TEXT_BYTES = 6_000;
const MOST_OUTPUT = 2_000;
const TEXT = "Seven words of text are said again. ".repeat(TEXT_BYTES).slice(0, TEXT_BYTES);

/** The request of a row with a text of a known size and a limit for its answer; undefined for what is no talk. */
function filled({ dialect, path, request }: Row): object | undefined {
  if (path === "/chat/completions")
    return { ...request, messages: [{ role: "user", content: TEXT }], max_completion_tokens: MOST_OUTPUT };
  if (path === "/messages") return { ...request, messages: [{ role: "user", content: TEXT }], max_tokens: MOST_OUTPUT };
  if (dialect === "google" && path.endsWith(":generateContent"))
    return {
      ...request,
      contents: [{ role: "user", parts: [{ text: TEXT }] }],
      generationConfig: { maxOutputTokens: MOST_OUTPUT },
    };
  return undefined;
}

const ROWS = readFileSync(new URL("../fixtures/golden.jsonl", import.meta.url), "utf8")
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line) as Row)
  .flatMap((row) => {
    const [, tokens, input, output] = PLAIN.exec(row.sum) ?? [];
    const body = filled(row);
    // Each byte is a token at most; USD per million tokens is 1,000 nano-USD each.
    const most = TEXT_BYTES * Number(input) * 1_000 + MOST_OUTPUT * Number(output) * 1_000;
    // A tier that is asked for and not given, or a longer context, has another price than this request can be billed
    // at.
    const isOther = Number(tokens) > TEXT_BYTES || "service_tier" in row.request;
    return input === undefined || body === undefined || isOther ? [] : [{ ...row, body, most }];
  });

const bench = withProxy(json(chatAnswer()), { KEYMETER_DURABILITY: "process" });

it("is asked of the plain requests of the golden table", () => {
  expect(ROWS.length).toBeGreaterThanOrEqual(40);
});

it.each(ROWS)(
  "$case: the bound is the most that can be billed, and 5 % more at most",
  async ({ dialect, path, body, most }) => {
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ id: `of-${id}`, scope: { keyId: id }, amountNanoUsd: 0n, mode: "strict" });
    const answer = await fetch(bench.running.url + PREFIX[dialect] + path, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
      body: JSON.stringify(body),
    });
    expect(answer.status, await answer.text()).toBe(402);
    const asked = Number(parseUsd(answer.headers.get("x-keymeter-budget-asked-usd") ?? ""));
    expect(asked).toBeGreaterThanOrEqual(most);
    expect(asked / most).toBeLessThanOrEqual(1.05);
  },
);
