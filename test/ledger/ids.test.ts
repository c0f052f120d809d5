// Ids of attempts are numbers that grow; what no attempt stands behind has one that is no number.
import { expect, it } from "vitest";
import { attemptAtMs, createAnswerId, createAttemptIds, formatRequestId } from "../../ledger/ids.ts";

it("an attempt's id is its instant, and never repeats", () => {
  const now = Date.UTC(2026, 10, 29);
  const next = createAttemptIds(0, () => now);
  const [first, second] = [next(), next()];
  expect(attemptAtMs(first)).toBe(now);
  expect(second).toBe(first + 1);
  expect(formatRequestId(first)).toMatch(/^req_km_\d+$/);
});

it("a refusal's id has the same form and is no attempt's", () => {
  const ids = Array.from({ length: 1_000 }, createAnswerId);
  expect(new Set(ids).size).toBe(ids.length);
  for (const id of ids) expect(id).toMatch(/^req_km_r[0-9a-f]{32}$/);
});
