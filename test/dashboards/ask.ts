// Asks Prometheus what a panel asks, as Grafana would: with the dashboard's variables filled in, over the panel's own
// range.

export type Sample = {
  readonly metric: { readonly [label: string]: string };
  readonly value: readonly [number, string];
};
type Series = {
  readonly metric: { readonly [label: string]: string };
  readonly values: readonly (readonly [number, string])[];
};
export type Target = {
  readonly refId: string;
  readonly expr: string;
  readonly instant?: boolean;
  readonly legendFormat?: string;
  readonly format?: string;
};
type Asked = { readonly interval?: string; readonly timeFrom?: string };
/** A span of time in milliseconds, and how far its points lie from each other. */
type Range = { readonly fromMs: number; readonly untilMs: number; readonly stepMs: number };

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** A dashboard's range where none is said. */
const USUAL = "now-24h";
/** Points that a curve has room for. */
const POINTS = 720;

export type Asker = {
  ask<Row>(path: string, parameters: { readonly [name: string]: string }): Promise<Row[]>;
  /** Of an instant question one value a series. */
  answer(panel: Asked, target: Target, from?: string): Promise<Series[]>;
  /** `from`: where the dashboard's range begins, "now-30d". Ends now; no further back than history goes. */
  rangeOf(panel: Asked, from?: string): Range;
  /** All of every variable, one key where one is looked at. */
  substitute(expr: string): string;
};

export function createAsker(
  url: string,
  about: { readonly nowMs: number; readonly historyDays: number; readonly keyId: string },
): Asker {
  const { nowMs, historyDays, keyId } = about;
  const substitute = (expr: string): string =>
    expr
      .replaceAll('"$key"', (_, at: number) =>
        expr.slice(Math.max(0, at - 2), at).endsWith("=~") ? '".*"' : JSON.stringify(keyId),
      )
      .replaceAll(/"\$(team|project|env|provider|model)"/g, '".*"')
      .replaceAll("$__rate_interval", "5m");
  const ask = async <Row>(path: string, parameters: { readonly [name: string]: string }): Promise<Row[]> => {
    const answer = await fetch(`${url}/api/v1/${path}`, { method: "POST", body: new URLSearchParams(parameters) });
    const body = (await answer.json()) as { status: string; error?: string; data: { result: Row[] } };
    if (body.status !== "success") throw new Error(`${body.error}: ${parameters["query"]}`);
    return body.data.result;
  };
  const rangeOf = ({ interval, timeFrom }: Asked, from = USUAL): Range => {
    const spanMs = Math.min(lengthOf(timeFrom ?? from.replace(/^now-/, "")), (historyDays + 1) * DAY_MS);
    const leastMs = interval === undefined ? 60_000 : lengthOf(interval);
    const stepMs = Math.max(leastMs, Math.ceil(spanMs / POINTS / 60_000) * 60_000);
    return { fromMs: nowMs - spanMs, untilMs: nowMs, stepMs };
  };
  return {
    ask,
    substitute,
    rangeOf,
    async answer(panel, { expr, instant }, from) {
      const query = substitute(expr);
      if (instant) {
        const samples = await ask<Sample>("query", { query, time: String(nowMs / 1000) });
        return samples.map(({ metric, value }) => ({ metric, values: [value] }));
      }
      const { fromMs, untilMs, stepMs } = rangeOf(panel, from);
      // Grafana asks at whole steps.
      const [start, end] = [fromMs, untilMs].map((ms) => String((Math.floor(ms / stepMs) * stepMs) / 1000)) as [
        string,
        string,
      ];
      const step = String(stepMs / 1000);
      return ask<Series>("query_range", { query, start, end, step });
    },
  };
}

/** Milliseconds of "30d", "24h". */
function lengthOf(words: string): number {
  const [, count, unit] = /^(\d+)([dh])$/.exec(words) ?? [];
  if (count === undefined) throw new Error(`no length of time: ${words}`);
  return Number(count) * (unit === "d" ? DAY_MS : HOUR_MS);
}
