// Asks Prometheus what a panel asks, as Grafana would: with the dashboard's variables filled in, over the panel's own range.

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
type Asked = { readonly interval?: string };
/** A span of time in milliseconds, and how far its points lie from each other. */
type Range = { readonly fromMs: number; readonly untilMs: number; readonly stepMs: number };

const DAY_MS = 86_400_000;
/** What curves that are no days are looked at over. */
const LATELY_MS = 900_000;

export type Asker = {
  ask<Row>(path: string, parameters: { readonly [name: string]: string }): Promise<Row[]>;
  /** Of an instant question one value a series. */
  answer(panel: Asked, target: Target): Promise<Series[]>;
  rangeOf(panel: Asked): Range;
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
  const rangeOf = ({ interval }: Asked): Range => {
    if (interval !== "1d") return { fromMs: nowMs - LATELY_MS, untilMs: nowMs, stepMs: 60_000 };
    const untilMs = Math.floor(nowMs / DAY_MS) * DAY_MS;
    return { fromMs: untilMs - (historyDays + 1) * DAY_MS, untilMs, stepMs: DAY_MS };
  };
  return {
    ask,
    substitute,
    rangeOf,
    async answer(panel, { expr, instant }) {
      const query = substitute(expr);
      if (instant) {
        const samples = await ask<Sample>("query", { query, time: String(nowMs / 1000) });
        return samples.map(({ metric, value }) => ({ metric, values: [value] }));
      }
      const { fromMs, untilMs, stepMs } = rangeOf(panel);
      const [start, end, step] = [fromMs, untilMs, stepMs].map((ms) => String(ms / 1000)) as [string, string, string];
      return ask<Series>("query_range", { query, start, end, step });
    },
  };
}
