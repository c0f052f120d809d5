// Settings of the collector's gauges that name no team and no threshold of their own.
import { createPriceBook } from "../../ledger/prices/price-book.ts";
import { BUILT_IN } from "../../ledger/providers.ts";

export const METRICS_SETTINGS = {
  timezone: "UTC",
  dataDir: "/nowhere",
  capMode: "enforce",
  thresholds: {},
  teamThresholds: {},
  prices: createPriceBook(),
  providers: BUILT_IN,
  rotations: [],
  ownKeyRotations: [],
  pagesUrl: "http://127.0.0.1:4002",
} as const;
