// The bookings that both engines share: decided in memory, written as entries.
import { bookExtend } from "./extend.ts";
import type { Booker, Ledger } from "./ledger.ts";
import { bookMeterRan, bookSeen } from "./noticed.ts";
import { bookOwn } from "./own.ts";
import { bookRefused, createRefusals } from "./refusals.ts";
import { bookReserve } from "./reserve.ts";
import { bookSettle } from "./settle.ts";
import { bookSuspend } from "./suspend.ts";

export function bookersOf(ledger: Ledger): {
  readonly [T in "reserve" | "extend" | "settle" | "suspend" | "own" | "refused" | "meterRan" | "seen"]: Booker<T>;
} {
  const refusals = createRefusals(ledger);
  return {
    reserve: bookReserve(ledger, refusals),
    extend: bookExtend(ledger, refusals),
    settle: bookSettle(ledger),
    suspend: bookSuspend(ledger),
    own: bookOwn(ledger),
    refused: bookRefused(refusals),
    meterRan: bookMeterRan(ledger),
    seen: bookSeen(ledger),
  };
}
