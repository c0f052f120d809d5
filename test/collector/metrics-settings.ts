// Settings of the collector's gauges that name no team and no threshold of their own.
export const METRICS_SETTINGS = {
  timezone: "UTC",
  dataDir: "/nowhere",
  capMode: "enforce",
  thresholds: {},
  teamThresholds: {},
} as const;
