// keymeter doctor: looks at everything that has to work for Keymeter to work, and says of what does not how to mend it. Changes nothing;
// `doctor slack` sends a test message.
import { statfsSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { loadAlertsConfig } from "../alerts/config.ts";
import type { AlertsConfig } from "../alerts/config.ts";
import { checkSlack } from "../alerts/main.ts";
import { loadProxyConfig } from "../proxy/config.ts";
import type { ProxyConfig } from "../proxy/config.ts";
import { readImports } from "../ledger/bills.ts";
import { openForReading } from "../ledger/open.ts";
import { priceListAtMs } from "../ledger/price-list.ts";
import { toJson } from "../service/json.ts";
import { commandEnvironment } from "./config.ts";
import { formatTable } from "./table.ts";
import { UsageError } from "./usage-error.ts";

export const USAGE = `keymeter doctor [--spend] [--json]     checks keys, clock, disk, books, prices, bills, Prometheus, Alertmanager, Slack, Grafana
  --spend asks each provider for one token too: what a missing credit or a spent quota looks like shows only then
keymeter doctor slack [--json]         sends a test message, and says what is wrong with token, scope or channel
Exits with 1 when something is broken, with 0 when all is well or only not set up.`;

/** "off": not set up, which is no fault. */
type State = "ok" | "warn" | "fail" | "off";
type Finding = { readonly what: string; readonly state: State; readonly said: string; readonly mend?: string };

const TIMEOUT_MS = 8_000;
const DAY_MS = 86_400_000;
const MOST_SKEW_MS = 30_000;
const LEAST_FREE_BYTES = 1024 ** 3;
const OLD_PRICES_DAYS = 90;
const STALE_BILLS_MS = 26 * 3_600_000;

export async function run(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { json: { type: "boolean", default: false }, spend: { type: "boolean", default: false } },
  });
  const [only, ...more] = positionals;
  if (more.length > 0 || (only !== undefined && only !== "slack")) throw new UsageError(USAGE);
  const environment = commandEnvironment();
  const alerts = loadAlertsConfig(environment);
  const findings =
    only === "slack" ? await slack(alerts, true) : await everything(loadProxyConfig(environment), alerts, values.spend);
  if (values.json) process.stdout.write(`${toJson({ findings })}\n`);
  else {
    const marks: { readonly [state in State]: string } = { ok: "ok", warn: "look", fail: "BROKEN", off: "-" };
    const rows = findings.map(({ what, state, said }) => [what, marks[state], said]);
    process.stdout.write(`${formatTable(["what", "", "found"], rows)}\n`);
    const mends = findings.filter(({ mend }) => mend !== undefined);
    if (mends.length > 0)
      process.stdout.write(`\n${mends.map(({ what, mend }) => `${what}: ${mend ?? ""}`).join("\n")}\n`);
  }
  if (findings.some(({ state }) => state === "fail")) process.exitCode = 1;
}

async function everything(proxy: ProxyConfig, alerts: AlertsConfig, isPaid: boolean): Promise<Finding[]> {
  const checks: Promise<Finding[]>[] = [
    ...PROVIDERS.map((provider) => checkProvider(provider, proxy, isPaid)),
    Promise.resolve(disk(proxy.dataDir)),
    books(proxy.dataDir),
    Promise.resolve(prices(proxy.dataDir)),
    program("proxy", proxy.opsPort, "KEYMETER_OPS_PORT"),
    program("collector", proxy.collectorPort, "KEYMETER_COLLECTOR_PORT"),
    program("alerts", proxy.alertsPort, "KEYMETER_ALERTS_PORT"),
    prometheus(proxy.prometheusPort),
    ...alerts.alertmanagerUrls.map(alertmanager),
    slack(alerts, false),
    grafana(proxy.grafanaUrl),
  ];
  return (await Promise.all(checks)).flat();
}

type Provider = {
  readonly name: string;
  readonly settings: (config: ProxyConfig) => ProxyConfig["openai"];
  readonly variable: string;
  readonly list: string;
  readonly headers: (key: string) => { readonly [name: string]: string };
  /** One token of the smallest model. */
  readonly token: { readonly path: string; readonly body: object };
};

const PROVIDERS: readonly Provider[] = [
  {
    name: "OpenAI",
    settings: ({ openai }) => openai,
    variable: "OPENAI_API_KEY",
    list: "/v1/models",
    headers: (key) => ({ authorization: `Bearer ${key}` }),
    token: {
      path: "/v1/chat/completions",
      body: { model: "gpt-4o-mini", max_tokens: 1, messages: [{ role: "user", content: "." }] },
    },
  },
  {
    name: "Anthropic",
    settings: ({ anthropic }) => anthropic,
    variable: "ANTHROPIC_API_KEY",
    list: "/v1/models",
    headers: (key) => ({ "x-api-key": key, "anthropic-version": "2023-06-01" }),
    token: {
      path: "/v1/messages",
      body: { model: "claude-haiku-4-5", max_tokens: 1, messages: [{ role: "user", content: "." }] },
    },
  },
  {
    name: "Google Gemini",
    settings: ({ google }) => google,
    variable: "GEMINI_API_KEY",
    list: "/v1beta/models",
    headers: (key) => ({ "x-goog-api-key": key }),
    token: {
      path: "/v1beta/models/gemini-2.5-flash-lite:generateContent",
      body: { contents: [{ parts: [{ text: "." }] }], generationConfig: { maxOutputTokens: 1 } },
    },
  },
];

async function checkProvider(provider: Provider, config: ProxyConfig, isPaid: boolean): Promise<Finding[]> {
  const { name, variable, list, headers, token } = provider;
  const { url: origin, credential } = provider.settings(config);
  const key = await credential?.reveal();
  if (key === undefined) {
    const said = `${variable} is not set: clients bring their own keys, or do not use it`;
    return [{ what: name, state: "off", said }];
  }
  const call = async (path: string, body?: object): Promise<Response> =>
    fetch(new URL(path, origin), {
      headers: { ...headers(key), ...(body ? { "content-type": "application/json" } : {}) },
      ...(body ? { method: "POST", body: JSON.stringify(body) } : {}),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  try {
    const sentMs = Date.now();
    const listed = await call(list);
    const findings = [verdict(name, variable, listed.status, await listed.text(), origin.origin)];
    findings.push(...clock(name, listed.headers.get("date"), (sentMs + Date.now()) / 2));
    if (isPaid && findings[0]?.state === "ok") {
      const answered = await call(token.path, token.body);
      findings[0] = verdict(name, variable, answered.status, await answered.text(), origin.origin);
    }
    return findings;
  } catch (error) {
    return [
      {
        what: name,
        state: "fail",
        said: `${origin.origin} cannot be reached: ${reason(error)}`,
        mend: "check the base URL under `proxy` in keymeter.yaml, the network, and a proxy in between",
      },
    ];
  }
}

/** What an answer says of the key. */
function verdict(what: string, variable: string, status: number, text: string, origin: string): Finding {
  const isMoney = /insufficient_quota|billing|credit balance|BILLING_DISABLED|payment/i.test(text);
  if (status < 300) return { what, state: "ok", said: `the key works at ${origin}` };
  if (isMoney)
    return {
      what,
      state: "fail",
      said: `${status}: the account has no credit, or billing is off`,
      mend: "top up, or switch billing on, in the provider's console; the key itself is right",
    };
  switch (status) {
    case 400:
    case 401:
      return {
        what,
        state: "fail",
        said: `${status}: the key is wrong or was revoked`,
        mend: `put a working one into ${variable} and restart the proxy`,
      };
    case 403:
      return {
        what,
        state: "fail",
        said: "403: the key may not do this",
        mend: "give it the right to list and use models in the provider's console, or lift its address and project restrictions",
      };
    case 404:
      return {
        what,
        state: "fail",
        said: `404: ${origin} is no such API`,
        mend: "the base URL is the origin alone, without /v1",
      };
    case 429:
      return {
        what,
        state: "warn",
        said: "429: too many requests right now",
        mend: "wait a minute; if it stays, raise the organisation's rate limit",
      };
    default:
      return {
        what,
        state: status >= 500 ? "warn" : "fail",
        said: `${status} from ${origin}`,
        mend: "look at the provider's status page",
      };
  }
}

function clock(name: string, date: string | null, nowMs: number): Finding[] {
  const theirs = Date.parse(date ?? "");
  if (Number.isNaN(theirs)) return [];
  const skewMs = Math.abs(theirs - nowMs);
  if (skewMs < MOST_SKEW_MS) return [];
  return [
    {
      what: "clock",
      state: "fail",
      said: `${Math.round(skewMs / 1000)} s away from ${name}'s`,
      mend: "switch time synchronisation on (timedatectl set-ntp true): days and budgets begin by this clock",
    },
  ];
}

function disk(dataDir: string): Finding[] {
  try {
    const { bavail, bsize } = statfsSync(dataDir);
    const free = bavail * bsize;
    const said = `${(free / 1024 ** 3).toFixed(1)} GiB free where ${dataDir} is`;
    return free > LEAST_FREE_BYTES
      ? [{ what: "disk", state: "ok", said }]
      : [{ what: "disk", state: "fail", said, mend: "make room: a ledger that cannot commit refuses every request" }];
  } catch (error) {
    return [{ what: "disk", state: "fail", said: `${dataDir}: ${reason(error)}`, mend: "set KEYMETER_DATA_DIR" }];
  }
}

async function books(dataDir: string): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const [file, maker] of [
    ["usage.db", "the proxy"],
    ["billing.db", "the collector"],
    ["notices.db", "the alerts program"],
  ] as const) {
    const what = file;
    try {
      const database = openForReading(join(dataDir, file));
      if (!database) {
        findings.push({ what, state: "off", said: `not there yet: ${maker} makes it on its first start` });
        continue;
      }
      const result = String(database.pragma("quick_check(1)", { simple: true }));
      findings.push(
        result === "ok"
          ? { what, state: "ok", said: "readable and whole; `keymeter verify` recomputes it" }
          : { what, state: "fail", said: result, mend: "stop Keymeter, keep a copy, and restore the last backup" },
      );
      if (file === "billing.db") findings.push(...(await bills(database)));
      database.close();
    } catch (error) {
      findings.push({ what, state: "fail", said: reason(error), mend: "look at its owner and its mode" });
    }
  }
  return findings;
}

async function bills(database: NonNullable<ReturnType<typeof openForReading>>): Promise<Finding[]> {
  const imports = await readImports(database);
  if (imports.length === 0)
    return [{ what: "bills", state: "off", said: "none is read; OPENAI_ADMIN_KEY and the like switch it on" }];
  return imports.map(({ provider, lastSuccessMs, lastError }) => {
    const what = `bill of ${provider}`;
    if (lastSuccessMs !== null && Date.now() - lastSuccessMs < STALE_BILLS_MS && lastError === null)
      return { what, state: "ok", said: `read ${ago(lastSuccessMs)}` };
    return {
      what,
      state: lastSuccessMs !== null && Date.now() - lastSuccessMs < STALE_BILLS_MS ? "warn" : "fail",
      said: `${lastSuccessMs === null ? "never read" : `last read ${ago(lastSuccessMs)}`}${lastError === null ? "" : `: ${lastError}`}`,
      mend: "renew the admin key; `keymeter collector --once reconcile` tries it now",
    };
  });
}

function prices(dataDir: string): Finding[] {
  const days = Math.floor((Date.now() - priceListAtMs(dataDir)) / DAY_MS);
  const said = `the price list is ${days} days old`;
  return days < OLD_PRICES_DAYS
    ? [{ what: "prices", state: "ok", said }]
    : [
        {
          what: "prices",
          state: "warn",
          said,
          mend: "`keymeter collector --once prices`, or collector.price_list_url",
        },
      ];
}

async function program(name: string, port: number, setting: string): Promise<Finding[]> {
  try {
    const answer = await get(`http://127.0.0.1:${port}/readyz`);
    if (answer.ok) return [{ what: name, state: "ok", said: `ready on port ${port}` }];
    return [
      {
        what: name,
        state: "fail",
        said: (await answer.text()).trim(),
        mend: `its log lies in the data folder under logs/${name}.log`,
      },
    ];
  } catch (error) {
    return [
      {
        what: name,
        state: "fail",
        said: `does not answer on port ${port}: ${reason(error)}`,
        mend: `start it (\`keymeter up\`), or set ${setting} to its port`,
      },
    ];
  }
}

async function prometheus(port: number): Promise<Finding[]> {
  type Targets = {
    data: { activeTargets: { health: string; scrapeUrl: string; lastError: string; labels: { job?: string } }[] };
  };
  try {
    const answer = await get(`http://127.0.0.1:${port}/api/v1/targets?state=active`);
    const targets = ((await answer.json()) as Targets).data.activeTargets.filter(({ labels }) =>
      labels.job?.startsWith("keymeter"),
    );
    const down = targets.filter(({ health }) => health !== "up");
    if (targets.length === 0)
      return [
        {
          what: "Prometheus",
          state: "fail",
          said: "runs, and reads nothing of Keymeter",
          mend: "give it alerts/prometheus.yaml",
        },
      ];
    if (down.length === 0) return [{ what: "Prometheus", state: "ok", said: `reads ${targets.length} programs` }];
    const said = down.map(({ scrapeUrl, lastError }) => `${scrapeUrl}: ${lastError || "not read yet"}`).join("; ");
    return [
      { what: "Prometheus", state: "fail", said, mend: "start what is down, or mend its address in prometheus.yaml" },
    ];
  } catch {
    return [
      { what: "Prometheus", state: "off", said: `none on port ${port}: money alerts are evaluated by Keymeter itself` },
    ];
  }
}

async function alertmanager(url: string): Promise<Finding[]> {
  try {
    const answer = await get(new URL("api/v2/status", url.endsWith("/") ? url : `${url}/`).href);
    const { config } = (await answer.json()) as { config: { original: string } };
    if (config.original.includes("/webhook") && !config.original.includes("credentials"))
      return [
        {
          what: "Alertmanager",
          state: "fail",
          said: `${url} delivers to Keymeter without the webhook's token`,
          mend: "give both webhooks http_config.authorization.credentials_file with the file webhook-token of the data folder, as alerts/alertmanager.yaml does",
        },
      ];
    if (config.original.includes("/webhook"))
      return [{ what: "Alertmanager", state: "ok", said: `${url} delivers to Keymeter` }];
    return [
      {
        what: "Alertmanager",
        state: "fail",
        said: `${url} has no webhook to Keymeter`,
        mend: "give it alerts/alertmanager.yaml",
      },
    ];
  } catch {
    return [{ what: "Alertmanager", state: "off", said: `none at ${url}` }];
  }
}

async function slack(config: AlertsConfig, isSaid: boolean): Promise<Finding[]> {
  const found = await checkSlack(config, isSaid);
  return found.map(({ ok, isSet, said, mend }) => ({
    what: "Slack",
    state: ok ? "ok" : isSet || isSaid ? "fail" : "off",
    said,
    ...(mend === undefined ? {} : { mend }),
  }));
}

async function grafana(url: string): Promise<Finding[]> {
  try {
    const answer = await get(new URL("api/health", url.endsWith("/") ? url : `${url}/`).href);
    const { version = "?" } = (await answer.json()) as { version?: string };
    return [{ what: "Grafana", state: "ok", said: `${version} at ${url}` }];
  } catch {
    return [{ what: "Grafana", state: "off", said: `none at ${url}; messages link to it (grafana_url)` }];
  }
}

function get(url: string): Promise<Response> {
  return fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS) });
}

function ago(ms: number): string {
  const minutes = Math.round((Date.now() - ms) / 60_000);
  return minutes < 120 ? `${minutes} minutes ago` : `${Math.round(minutes / 60)} hours ago`;
}

function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? error.cause.message : error.message;
}
