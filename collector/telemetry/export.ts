// Telemetry: the books as OpenTelemetry and CloudWatch want them, beside everything else. It reads events in the order in
// which they were committed, from where it was, so the proxy knows nothing of it, and a receiver that is away or slow holds up
// nobody: what was not sent goes with the next turn.
import { randomUUID } from "node:crypto";
import type { ReadableSpan } from "@opentelemetry/sdk-trace";
import { Gauge } from "prom-client";
import type { Registry } from "prom-client";
import type { BillingBooks, UsageBooks } from "../../ledger/books.ts";
import { findMark, noteMark } from "../../ledger/billing/telemetry.ts";
import type { TelemetryMark } from "../../ledger/billing/telemetry.ts";
import { readAuditAfter, readCommits, readLastAudit, readLastCommit } from "../../ledger/usage/commits.ts";
import { readKeys } from "../../ledger/usage/read-keys.ts";
import type { Log } from "../../service/log.ts";
import { createCloudWatchOtlp, createOtlp } from "./destination.ts";
import type { Destination } from "./destination.ts";
import { logOf } from "./logs.ts";
import { metricsOf } from "./metrics.ts";
import { loadOtel } from "./packages.ts";
import type { Otel } from "./packages.ts";
import { createPutting } from "./put-metrics.ts";
import type { Sent } from "./send.ts";
import type { CloudWatchSettings, OtlpSettings, Signal } from "./settings.ts";
import { spanOf } from "./spans.ts";
import { createSums } from "./sums.ts";
import type { Sums } from "./sums.ts";

export type Telemetry = {
  /** One turn: all that is new goes out. Never rejects. */
  tick(): Promise<void>;
  /** After a last turn, which is not waited for longer than some seconds. */
  stop(): Promise<void>;
};

export type TelemetrySettings = {
  readonly otlp: OtlpSettings | undefined;
  readonly cloudWatch: CloudWatchSettings | undefined;
  /** How often, and under which name. */
  readonly everySeconds: number;
  readonly serviceName: string;
  readonly version: string;
};

type Books = { readonly usage: UsageBooks; readonly billing: BillingBooks };

/** Events that are read at once: others get a turn in between. */
const PAGE = 500;
/** Of a turn's last try, before the program ends. */
const STOP_MS = 5_000;
/** Records that are left out one by one before any is taken. */
const MOST_DROPPED = 10;
const SECOND = 1_000;

/** Begins to export, from what is booked from now on where it never did. Undefined: nothing goes anywhere. Rejects with
 *  PackageMissing where a package is to be installed. */
export async function startTelemetry(
  books: Books,
  registry: Registry,
  settings: TelemetrySettings,
  log: Log,
): Promise<Telemetry | undefined> {
  const { otlp, cloudWatch } = settings;
  if (otlp === undefined && cloudWatch === undefined) return undefined;
  const jobs: { readonly name: string; readonly work: (nowMs: number) => Promise<void> }[] = [];
  const health = createHealth(registry, log);
  if (otlp !== undefined || cloudWatch?.by === "otlp") {
    const otel = await loadOtel();
    const destinations = [
      ...(otlp === undefined ? [] : [createOtlp(otel, otlp)]),
      ...(cloudWatch?.by === "otlp" ? [await createCloudWatchOtlp(otel, cloudWatch)] : []),
    ];
    jobs.push(...(await otlpJobs(otel, books, registry, { ...settings, destinations }, health)));
  }
  if (cloudWatch?.by === "put") {
    const putting = await createPutting(books, registry, cloudWatch);
    const work = async (nowMs: number): Promise<void> => {
      const said = await putting.tick(nowMs).then(
        () => ({ ok: true }) as const,
        (error: unknown) => failedBy(error),
      );
      health.note("cloudwatch", "metrics", said, nowMs);
    };
    jobs.push({ name: "cloudwatch", work });
  }
  let running: Promise<void> | undefined;
  const turn = async (): Promise<void> => {
    for (const { name, work } of jobs)
      await work(Date.now()).catch((error: unknown) => log.error({ err: error, name }, "telemetry failed; it goes on"));
  };
  const tick = (): Promise<void> => (running ??= turn().finally(() => (running = undefined)));
  const timer = setInterval(() => void tick(), settings.everySeconds * SECOND);
  void tick();
  return {
    tick,
    async stop() {
      clearInterval(timer);
      // What was booked since the turn that may be under way.
      const last = (running ?? Promise.resolve()).then(tick);
      let waited: NodeJS.Timeout | undefined;
      await Promise.race([last, new Promise((resolve) => (waited = setTimeout(resolve, STOP_MS)))]);
      clearTimeout(waited);
    },
  };
}

async function otlpJobs(
  otel: Otel,
  books: Books,
  registry: Registry,
  { otlp, serviceName, version, destinations }: TelemetrySettings & { readonly destinations: readonly Destination[] },
  health: Health,
) {
  const names = otlp?.names ?? "both";
  const labels = otlp?.labels ?? (["team", "project", "env"] as const);
  const keyNames = new Map<string, string>();
  const nameOfKey = (keyId: string): string => keyNames.get(keyId) ?? keyId;
  const salt = await saltOf(books.billing);
  const resource = otel.resourceFromAttributes({
    "service.name": serviceName,
    "service.version": version,
    "service.instance.id": salt,
  });
  const summed = createSummed(books, JSON.stringify([names, labels]), (text) =>
    createSums({ names, labels, nameOfKey }, text),
  );
  const spanSettings = { names, share: otlp?.traceShare ?? 1, nameOfKey, salt };
  const has = (signal: Signal): Destination[] => destinations.filter(({ signals }) => signals.includes(signal));
  const learnNames = async (): Promise<void> => {
    for (const { id, name } of (await readKeys(books.usage)).keys) keyNames.set(id, name);
  };
  const sendMetrics = async (nowMs: number): Promise<void> => {
    const { sums, sinceMs } = await summed.goOn(nowMs);
    const metrics = await metricsOf(otel, resource, { sums, sinceMs, nowMs, gauges: registry });
    for (const destination of has("metrics"))
      if (health.mayAsk(destination.name, "metrics", nowMs))
        health.note(destination.name, "metrics", await destination.metrics(metrics), nowMs);
  };
  const walkSpans = (destination: Destination) => (nowMs: number) =>
    walk({
      books,
      name: `traces:${destination.name}`,
      nowMs,
      begin: () => readLastCommit(books.usage),
      read: async (mark) => {
        const commits = await readCommits(books.usage, mark, PAGE);
        const spans = commits.flatMap(({ event, adjustedNanoUsd }) =>
          adjustedNanoUsd === null ? (spanOf(otel, resource, event, spanSettings) ?? []) : [],
        );
        return { items: spans, last: commits.at(-1)?.place, isAll: commits.length < PAGE };
      },
      send: (spans: ReadableSpan[]) => destination.traces(spans),
      signal: "traces",
      destination,
      health,
    });
  const walkLogs = (destination: Destination) => (nowMs: number) =>
    walk({
      books,
      name: `logs:${destination.name}`,
      nowMs,
      begin: async () => ({ number: await readLastAudit(books.usage), position: 0 }),
      read: async ({ number }) => {
        const rows = await readAuditAfter(books.usage, number, PAGE);
        const last = rows.at(-1);
        return {
          items: rows.map((row) => logOf(otel, resource, row)),
          last: last && { number: last.seq, position: 0 },
          isAll: rows.length < PAGE,
        };
      },
      send: (rows) => destination.logs(rows),
      signal: "logs",
      destination,
      health,
    });
  return [
    { name: "keys", work: learnNames },
    { name: "metrics", work: sendMetrics },
    ...has("traces").map((one) => ({ name: `traces:${one.name}`, work: walkSpans(one) })),
    ...has("logs").map((one) => ({ name: `logs:${one.name}`, work: walkLogs(one) })),
  ];
}

/** One per installation: ids of spans are made with it. */
async function saltOf(billing: BillingBooks): Promise<string> {
  const mark = await findMark(billing, "salt");
  const salt = mark?.state ?? randomUUID();
  if (!mark) await noteMark(billing, "salt", { number: 0, position: 0, sinceMs: Date.now(), state: salt });
  return salt;
}

/** The sums, brought up to the last commit and kept with its number. `form`: by which names and labels; with others they begin
 *  anew where they were, and say since when. */
function createSummed({ usage, billing }: Books, form: string, make: (text: string | null) => Sums) {
  const NAME = "metrics";
  let sums: Sums | undefined;
  let mark: TelemetryMark | undefined;
  return {
    async goOn(nowMs: number): Promise<{ readonly sums: Sums; readonly sinceMs: number }> {
      if (!sums || !mark) {
        const kept = await findMark(billing, NAME);
        mark = kept ?? { ...(await readLastCommit(usage)), sinceMs: nowMs, state: null };
        const [keptForm = "", text = null] = (JSON.parse(mark.state ?? "[]") ?? []) as [string?, string?];
        if (keptForm !== form) mark = { ...mark, sinceMs: nowMs };
        sums = make(keptForm === form ? text : null);
        if (!kept) await noteMark(billing, NAME, mark);
      }
      const summing = sums;
      let { number, position } = mark;
      try {
        for (;;) {
          const page = await readCommits(usage, { number, position }, PAGE);
          for (const commit of page) summing.add(commit);
          ({ number, position } = page.at(-1)?.place ?? { number, position });
          if (page.length < PAGE) break;
          await new Promise((resolve) => setImmediate(resolve));
        }
        if (number !== mark.number || position !== mark.position) {
          const next = { ...mark, number, position, state: JSON.stringify([form, summing.toText()]) };
          await noteMark(billing, NAME, next);
          mark = next;
        }
      } catch (error) {
        // What is in memory is ahead of what is kept: it is read again, or a page would count twice.
        sums = undefined;
        throw error;
      }
      return { sums, sinceMs: mark.sinceMs };
    },
  };
}

type Walk<T> = {
  readonly books: Books;
  readonly name: string;
  readonly nowMs: number;
  readonly begin: () => Promise<Pick<TelemetryMark, "number" | "position">>;
  readonly read: (
    mark: TelemetryMark,
  ) => Promise<{ items: T[]; last: Pick<TelemetryMark, "number" | "position"> | undefined; isAll: boolean }>;
  readonly send: (items: T[]) => Promise<Sent>;
  readonly signal: Signal;
  readonly destination: Destination;
  readonly health: Health;
};

/** Sends what comes after the mark, page by page, and moves it on when a page was taken. */
async function walk<T>({ books, name, nowMs, begin, read, send, signal, destination, health }: Walk<T>): Promise<void> {
  if (!health.mayAsk(destination.name, signal, nowMs)) return;
  let mark = await findMark(books.billing, name);
  if (!mark) {
    mark = { ...(await begin()), sinceMs: nowMs, state: null };
    await noteMark(books.billing, name, mark);
  }
  for (;;) {
    const { items, last, isAll } = await read(mark);
    if (!last) return;
    const { said, dropped } = await sendPage(items, send);
    if (said.ok) health.drop(destination.name, signal, dropped);
    health.note(destination.name, signal, said, nowMs);
    if (!said.ok) return;
    mark = { ...mark, ...last };
    await noteMark(books.billing, name, mark);
    if (isAll) return;
  }
}

/** Sends a page. What is refused as it is goes in halves, and one alone that is refused is left out, for the others to go on; but a
 *  receiver that takes nothing at all is to blame itself: then all is kept. */
async function sendPage<T>(
  items: T[],
  send: (items: T[]) => Promise<Sent>,
): Promise<{ readonly said: Sent; readonly dropped: number }> {
  let [taken, dropped] = [0, 0];
  const go = async (part: T[]): Promise<Sent> => {
    const said = await send(part);
    if (said.ok) taken += part.length;
    if (said.ok || !said.isRefused) return said;
    if (part.length === 1) {
      dropped += 1;
      return taken === 0 && dropped >= MOST_DROPPED ? said : { ok: true, said: `one was left out, for ${said.error}` };
    }
    const middle = Math.ceil(part.length / 2);
    const first = await go(part.slice(0, middle));
    return first.ok ? await go(part.slice(middle)) : first;
  };
  return { said: items.length === 0 ? { ok: true } : await go(items), dropped };
}

function failedBy(error: unknown): Sent {
  const { name = "", message = String(error) } = error instanceof Error ? error : {};
  return { ok: false, error: `${name}: ${message}`.slice(0, 300), isRefused: false, retryAfterMs: 0 };
}

type Health = ReturnType<typeof createHealth>;

/** How each destination does: said once when it changes, and in gauges. */
function createHealth(registry: Registry, log: Log) {
  const labelNames = ["destination", "signal"] as const;
  const sentAt = new Gauge({
    name: "keymeter_telemetry_sent_timestamp_seconds",
    help: "When telemetry was last taken by its receiver.",
    labelNames: [...labelNames],
    registers: [registry],
  });
  const dropped = new Gauge({
    name: "keymeter_telemetry_dropped_records",
    help: "Spans and log records that a receiver refused one by one, since this program began.",
    labelNames: [...labelNames],
    registers: [registry],
  });
  const failing = new Map<string, { readonly error: string; readonly againMs: number }>();
  const idOf = (destination: string, signal: Signal): string => `${destination} ${signal}`;
  return {
    /** A receiver that asked to be left alone is. */
    mayAsk: (destination: string, signal: Signal, nowMs: number): boolean =>
      nowMs >= (failing.get(idOf(destination, signal))?.againMs ?? 0),
    note(destination: string, signal: Signal, said: Sent, nowMs: number): void {
      const id = idOf(destination, signal);
      const before = failing.get(id);
      if (said.ok) {
        sentAt.set({ destination, signal }, nowMs / SECOND);
        failing.delete(id);
        if (before) log.info({ destination, signal }, "telemetry is taken again");
        if (said.said !== undefined) log.warn({ destination, signal, said: said.said }, "telemetry was taken in part");
        return;
      }
      failing.set(id, { error: said.error, againMs: nowMs + said.retryAfterMs });
      if (before?.error !== said.error)
        log.warn({ destination, signal, error: said.error }, "telemetry is not taken; it is kept, and sent again");
    },
    drop(destination: string, signal: Signal, count: number): void {
      if (count > 0) dropped.inc({ destination, signal }, count);
    },
  };
}
