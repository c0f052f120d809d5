// OpenAI's costs endpoint on loopback, as documented: one bucket a day, pages, an admin key, and failures as told.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

type CostRow = {
  readonly line_item: string;
  readonly amount: number | string;
  readonly api_key_id?: string;
  readonly currency?: string;
};

export type FakeBilling = {
  readonly url: string;
  /** Rows by UTC day. */
  readonly days: Map<string, CostRow[]>;
  readonly requests: string[];
  /** Answers this status to everything while set. */
  status: number | undefined;
  pageSize: number;
  close(): Promise<void>;
};

export async function startFakeBilling(adminKey: string): Promise<FakeBilling> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    requests.push(request.url ?? "");
    const reply = (status: number, body: object): void =>
      void response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    if (fake.status !== undefined)
      return reply(fake.status, { error: { message: "as told", type: "server_error", code: null } });
    if (request.headers.authorization !== `Bearer ${adminKey}`)
      return reply(401, {
        error: { message: "Incorrect API key provided", type: "invalid_request_error", code: "invalid_api_key" },
      });
    const url = new URL(request.url ?? "/", "http://fake");
    if (url.pathname !== "/v1/organization/costs") return reply(404, { error: { message: "no such path" } });
    const start = Number(url.searchParams.get("start_time"));
    const rows = fake.days.get(new Date(start * 1000).toISOString().slice(0, 10)) ?? [];
    const from = Number(url.searchParams.get("page") ?? "0");
    const page = rows.slice(from, from + fake.pageSize);
    const next = from + fake.pageSize < rows.length ? String(from + fake.pageSize) : null;
    const results = page.map((row) => ({
      object: "organization.costs.result",
      amount: { value: row.amount, currency: row.currency ?? "usd" },
      line_item: row.line_item,
      project_id: "proj_1",
      api_key_id: row.api_key_id ?? null,
    }));
    reply(200, {
      object: "page",
      data: [{ object: "bucket", start_time: start, end_time: start + 86_400, results }],
      has_more: next !== null,
      next_page: next,
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const fake: FakeBilling = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    days: new Map(),
    requests,
    status: undefined,
    pageSize: 2,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
  return fake;
}
