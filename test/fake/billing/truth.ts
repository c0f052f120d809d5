// What was truly used and charged, for fake billing APIs to report as providers do: late, in pages, corrected. And the
// server that they stand on, with a journal of its own.
import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { BilledKind } from "../../../ledger/billing/bills.ts";
import type { Unit } from "../../../ledger/usage.ts";

/** One thing that a provider charges for. */
export type Charge = {
  readonly provider: string;
  readonly atMs: number;
  readonly billedKey?: string | undefined;
  readonly project?: string | undefined;
  readonly model?: string | undefined;
  readonly tier?: string | undefined;
  readonly unit?: Unit | undefined;
  readonly quantity: number;
  readonly amountNanoUsd: bigint;
  readonly listNanoUsd?: bigint | undefined;
  readonly kind?: BilledKind | undefined;
  readonly lineItem?: string | undefined;
  readonly requests?: number | undefined;
  /** When the bill has it, and when usage reports have it; absent: at once. */
  readonly billedAtMs?: number | undefined;
  readonly reportedAtMs?: number | undefined;
  /** It did not come through the proxy. */
  readonly isPastKeymeter?: boolean;
};
type FakeKey = {
  readonly provider: string;
  readonly id: string;
  readonly name: string;
  readonly project: string;
  readonly shown: string;
  /** Hidden unless it is asked for: its owner left the project. */
  readonly isHidden?: boolean;
  readonly state?: string;
};

export type Truth = { charges: Charge[]; keys: FakeKey[]; nowMs: number };

export function createTruth(nowMs: number): Truth {
  return { charges: [], keys: [], nowMs };
}

/** Charges of a provider in `[sinceMs, untilMs)` that are known by now, on the bill or in usage reports. */
export function known(
  truth: Truth,
  provider: string,
  by: "billedAtMs" | "reportedAtMs",
  sinceMs: number,
  untilMs: number,
): Charge[] {
  const hours = byHour(truth);
  const found: Charge[] = [];
  for (let hour = Math.floor(sinceMs / HOUR_MS); hour * HOUR_MS < untilMs; hour++)
    for (const one of hours.get(hour) ?? [])
      if (
        one.provider === provider &&
        one.atMs >= sinceMs &&
        one.atMs < untilMs &&
        (one[by] ?? one.atMs) <= truth.nowMs
      )
        found.push(one);
  return found;
}

const HOUR_MS = 3_600_000;
const indexes = new WeakMap<Truth, { readonly count: number; readonly hours: Map<number, Charge[]> }>();

function byHour(truth: Truth): Map<number, Charge[]> {
  const index = indexes.get(truth);
  if (index?.count === truth.charges.length) return index.hours;
  const hours = new Map<number, Charge[]>();
  for (const one of truth.charges) {
    const hour = Math.floor(one.atMs / HOUR_MS);
    const list = hours.get(hour);
    if (list) list.push(one);
    else hours.set(hour, [one]);
  }
  indexes.set(truth, { count: truth.charges.length, hours });
  return hours;
}

/** Sums by the given fields. */
export function grouped(charges: readonly Charge[], fields: readonly (keyof Charge)[]): Charge[] {
  const groups = new Map<string, { -readonly [field in keyof Charge]: Charge[field] }>();
  for (const one of charges) {
    const name = fields.map((field) => String(one[field] ?? "")).join("\n");
    const group = groups.get(name);
    if (!group) {
      groups.set(name, { ...one, requests: one.requests ?? 1 });
      continue;
    }
    group.quantity += one.quantity;
    group.amountNanoUsd += one.amountNanoUsd;
    group.requests = (group.requests ?? 0) + (one.requests ?? 1);
    if (group.listNanoUsd !== undefined) group.listNanoUsd += one.listNanoUsd ?? one.amountNanoUsd;
  }
  return [...groups.values()];
}

export type FakeServer = {
  readonly url: string;
  /** Every request that came: method and URL. */
  readonly journal: string[];
  /** The next answers are these instead. */
  readonly failures: { status: number; body?: object; headers?: { [name: string]: string } }[];
  /** Rows or buckets of a page. */
  pageSize: number;
  close(): Promise<void>;
};

export type Reply = (status: number, body: object, headers?: { [name: string]: string }) => void;

export async function startFake(
  answer: (url: URL, reply: Reply, request: IncomingMessage, body: string) => void,
  unauthorized: (request: IncomingMessage, url: URL) => object | undefined,
): Promise<FakeServer> {
  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    let body = "";
    request.setEncoding("utf8").on("data", (text: string) => (body += text));
    request.on("end", () => {
      fake.journal.push(`${request.method} ${request.url}`);
      const reply: Reply = (status, value, headers = {}) =>
        void response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(value));
      const failure = fake.failures.shift();
      if (failure) return reply(failure.status, failure.body ?? { error: { message: "as told" } }, failure.headers);
      const url = new URL(request.url ?? "/", "http://fake");
      const refusal = unauthorized(request, url);
      if (refusal) return reply(401, refusal);
      answer(url, reply, request, body);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const fake: FakeServer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    journal: [],
    failures: [],
    pageSize: 3,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
  return fake;
}

/** One page of a list, by a cursor that only the server understands. */
export function pageOf<T>(list: readonly T[], cursor: string | null, size: number): { page: T[]; next: string | null } {
  const from = cursor === null ? 0 : Number(cursor.replace("page_", ""));
  const next = from + size < list.length ? `page_${from + size}` : null;
  return { page: list.slice(from, from + size), next };
}
