// How far a scope may be over its forecast before somebody is told. Pure: a forecast and thresholds in, amounts out, in
// USD.
//
// `over` is what was spent since the window began, minus what the frozen forecast expected by now: the amount by which
// the window will end over its forecast if the rest of it is as expected. The literal "this hour over this hour's
// forecast" fires on most days of real traffic. Measured on it: README.md.
import type { Thresholds } from "./thresholds.ts";

/** What is known of a scope's window. USD as floats. */
export type Outlook = {
  readonly scope: string;
  readonly p50: number;
  readonly p90: number;
  readonly largestHour: number;
  /** What the forecast expected of the running hour, up to now. */
  readonly hourExpected: number;
  /** A usual day of the whole organisation; 0 where it is not known. */
  readonly orgDay: number;
};

export type Lines = {
  /** Over by more than this: tell somebody; by more than that: now. */
  readonly warning: number;
  readonly critical: number;
  /** Below this nothing is worth a message. */
  readonly floor: number;
  /** One hour that costs more than this is a spike. */
  readonly hour: number;
};

/** A group's spend is steadier than its error band says; a key's is not. */
const GROUP_BAND = 0.43;
/** A spike is also this much of the day's forecast more than was expected of the hour. */
const SPIKE_DAY_SHARE = 0.1;

export function linesOf({ scope, p50, p90, largestHour, hourExpected, orgDay }: Outlook, of: Thresholds): Lines {
  const isKey = scope === "key";
  const floor = Math.max(of.over_forecast_usd, isKey ? of.key_org_share * orgDay : 0);
  const warning = Math.max(of.over_forecast * p50, (isKey ? 1 : GROUP_BAND) * (p90 - p50), floor);
  return {
    warning,
    critical: Math.max(of.far_over_forecast * p50, warning),
    floor,
    hour: Math.max(of.key_spike * largestHour, hourExpected + SPIKE_DAY_SHARE * p50),
  };
}
