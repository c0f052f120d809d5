// Agents and libraries that people use, unchanged, each with a prompt or a few calls: what the providers counted is
// what is booked, and at a cap nobody waits, tries again or learns less than why. What is not installed is skipped,
// loudly; clients.ts says how to install it.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CLIENTS, NAMES_THE_BUDGET } from "./clients.ts";
import { cap, meter, onOneLine, secondsOf } from "./measure.ts";
import { startStand } from "./stand.ts";
import type { Stand } from "./stand.ts";
import { IS_PROOF } from "../seed.ts";
import { noteSkipped } from "../skipped.ts";

const missing = CLIENTS.filter(({ version }) => version() === undefined);
/** They take minutes and gigabytes: a run of their own. */
const isAnyHere = missing.length < CLIENTS.length && IS_PROOF;
if (!isAnyHere) noteSkipped("real clients: `npm run proof` installs and runs them; docs/clients.md has the last run");
else if (missing.length > 0)
  noteSkipped(`${missing.map(({ name }) => name).join(", ")}: not installed; test/clients/clients.ts says how`);

/** Two commands at most, and what is around them. */
const mostMs = (client: (typeof CLIENTS)[number]): number => (2 * secondsOf(client) + 30) * 1_000;

describe.skipIf(!isAnyHere)("a real client", () => {
  let stand: Stand;
  beforeAll(async () => {
    stand = await startStand();
  });
  afterAll(async () => {
    await stand.stop();
  });

  describe.each(CLIENTS)("$name", (client) => {
    const { atCap, calls, version } = client;
    const isHere = version() !== undefined;

    it.skipIf(!isHere)(
      "is booked as its providers count, call by call",
      async () => {
        const { booked, counted, events, output } = await meter(stand, client);
        expect(counted.length, output).toBeGreaterThanOrEqual(calls);
        expect(booked, output).toEqual(counted);
        expect(events.filter(({ usageState }) => usageState !== "reported")).toEqual([]);
      },
      mostMs(client),
    );

    it.skipIf(!isHere)(
      `is told of its budget, ${atCap.ownFault === undefined ? "and ends" : `though ${atCap.ownFault}`}`,
      async () => {
        const { code, output, refusals, seconds, upstream } = await cap(stand, client);
        expect(upstream.calls).toBe(0);
        expect(refusals, output).toBeGreaterThanOrEqual(1);
        expect(refusals, output).toBeLessThanOrEqual(atCap.refusals);
        expect(seconds).toBeLessThan(atCap.seconds);
        expect(onOneLine(output)).toMatch(atCap.prints ?? NAMES_THE_BUDGET);
        if (atCap.ownFault === undefined) expect(code, "it was ended because its time was over").not.toBeNull();
      },
      mostMs(client),
    );
  });

  it("leaves books that prove themselves", async () => {
    const { code, text } = await stand.verify();
    expect(code, text).toBe(0);
  });
});
