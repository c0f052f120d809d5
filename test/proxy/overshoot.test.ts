// What each mode of a hard budget does to real traffic: how far a cap is passed, and whom it refused that would have
// fitted.
import { describe, expect, it } from "vitest";
import { IS_CI, IS_PROOF } from "../seed.ts";
import { hasTraffic, readTraffic, runCap } from "../simulation/traffic.ts";

const SHARES = IS_PROOF ? [0.01, 0.03, 0.1, 0.3, 0.9] : IS_CI ? [0.01, 0.3] : [0.01];

describe.skipIf(!hasTraffic).each(IS_CI ? (["azure-conv", "azure-code"] as const) : (["azure-code"] as const))(
  "a cap on the traffic of %s",
  (series) => {
    const traffic = hasTraffic ? readTraffic(series) : [];

    it.each(SHARES)("of %f of its cost: strict is never passed, expected by no more than is stated", async (share) => {
      const strict = await runCap(traffic, { mode: "strict", stream: true, share });
      expect(strict.spentNanoUsd).toBeGreaterThan(0n);
      expect(strict.overshootNanoUsd).toBe(0n);
      // Spread over three proxies it refuses whom one refuses, within one in a hundred.
      const spread = await runCap(traffic, { mode: "strict", stream: true, share, nodes: 3 });
      expect(spread.overshootNanoUsd).toBe(0n);
      expect(Math.abs(spread.refused - strict.refused)).toBeLessThanOrEqual(strict.refused / 100);
      for (const stream of [true, false]) {
        const expected = await runCap(traffic, { mode: "expected", stream, share });
        const spreadToo = await runCap(traffic, { mode: "expected", stream, share, nodes: 3 });
        expect(Math.abs(spreadToo.refused - expected.refused)).toBeLessThanOrEqual(Math.max(3, expected.refused / 100));
        expect(expected.overshootNanoUsd).toBeLessThanOrEqual(expected.allowedNanoUsd);
        // That is the price of strict: it turns away what would have fitted.
        expect(expected.fitted).toBeLessThan(strict.fitted);
        expect(expected.spentNanoUsd).toBeGreaterThan(strict.spentNanoUsd);
      }
    });
  },
);
