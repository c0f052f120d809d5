// What a topic of gauges is: a function that makes them, once, and gives back the one that reads them again at every
// refresh.
import type { Gauge } from "prom-client";
import type { PriceBook } from "../../ledger/prices/price-book.ts";
import type { Providers } from "../../ledger/providers.ts";
import type { Calendar } from "../../ledger/windows.ts";
import type { CollectorBooks } from "../compare.ts";
import type { OwnKeyRotation } from "../rotation/own-keys.ts";
import type { RotationSettings } from "../rotation/settings.ts";
import type { ThresholdSettings } from "../thresholds.ts";
import type { Reading } from "./reading.ts";

export type Topic = (make: MakeGauge, books: CollectorBooks, settings: GaugeSettings) => Refresh;

/** A name, what it says, and its labels: once for the gauge of now and for its past. */
export type Family<L extends string = string> = readonly [name: string, help: string, labels: readonly L[]];
export type MakeGauge = <L extends string>(...family: Family<L>) => Gauge<L>;

export type Refresh = (reading: Reading) => Promise<void>;

export type GaugeSettings = ThresholdSettings & {
  readonly calendar: Calendar;
  readonly prices: PriceBook;
  readonly providers: Providers;
  readonly dataDir: string;
  /** Of the proxy: where it only observes, no cap can fail. */
  readonly capMode: "enforce" | "observe";
  /** Whose bills are read here; of others there may be old notes. */
  readonly sources: readonly string[];
  /** Which credentials are replaced. */
  readonly rotations: readonly RotationSettings[];
  readonly ownKeyRotations: readonly OwnKeyRotation[];
};
