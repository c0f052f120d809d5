// keymeter doctor: looks at everything that has to work for Keymeter to work, and says of what does not how to mend it.
// Changes nothing; `doctor slack` sends a test message.
import { existsSync, readFileSync, statfsSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { loadAlertsConfig } from "../alerts/config.ts";
import { checkAlertmanagers, checkReceivers, checkSlack } from "../alerts/check.ts";
import { loadProxyConfig } from "../proxy/config.ts";
import { checkCredentials } from "../proxy/main.ts";
import { readImports } from "../ledger/billing/bills.ts";
import type { ImportNote } from "../ledger/billing/bills.ts";
import { findDamage } from "../ledger/backup.ts";
import { openBilling, openNotices, openUsage } from "../ledger/open.ts";
import { priceListAtMs } from "../ledger/prices/price-list.ts";
import { DAY_MS, HOUR_MS } from "../ledger/windows.ts";
import { askProgram, askProxy, ProgramGone, PROGRAMS, urlOfProgram } from "../service/admin.ts";
import type { Program } from "../service/admin.ts";
import { reasonOf } from "../service/finding.ts";
import type { Finding, FindingState } from "../service/finding.ts";
import { toJson } from "../service/json.ts";
import { openNetworkWords } from "../service/network.ts";
import { RESTORE } from "../service/secret.ts";
import { commandEnvironment, QUIET, loadCommandConfig } from "./config.ts";
import type { CommandConfig } from "./config.ts";
import { formatTable } from "./table.ts";
import { noSuchVerb } from "./usage-error.ts";
import { openSecrets } from "../service/secrets/index.ts";
import { placeOf } from "../service/config.ts";

export const USAGE = `keymeter doctor [--spend] [--json]     checks keys, clock, disk, books, prices, bills, Prometheus, Alertmanager, Slack, Grafana
  --spend asks each provider for one token too: what a missing credit or a spent quota looks like shows only then
keymeter doctor slack [--json]         sends a test message, and says what is wrong with token, scope or channel
Exits with 1 when something is broken, with 0 when all is well or only not set up.`;

const TIMEOUT_MS = 8_000;
const LEAST_FREE_BYTES = 1024 ** 3;
const OLD_PRICES_DAYS = 90;
const STALE_BILLS_MS = 26 * HOUR_MS;

export async function run(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { json: { type: "boolean", default: false }, spend: { type: "boolean", default: false } },
  });
  const [only, ...more] = positionals;
  if (more.length > 0 || (only !== undefined && only !== "slack")) throw noSuchVerb("doctor", only, ["slack"], USAGE);
  const findings =
    only === "slack" ? await alerting(loadCommandConfig(), true) : await everything(loadCommandConfig(), values.spend);
  if (values.json) process.stdout.write(`${toJson({ findings })}\n`);
  else {
    const marks: { readonly [state in FindingState]: string } = { ok: "ok", warn: "look", fail: "BROKEN", off: "-" };
    const rows = findings.map(({ what, state, said }) => [what, marks[state], said.replaceAll(/\s*\n\s*/g, " ")]);
    process.stdout.write(`${formatTable(["what", "", "found"], rows)}\n`);
    const mends = findings.filter(({ mend }) => mend !== undefined);
    if (mends.length > 0)
      process.stdout.write(`\n${mends.map(({ what, mend }) => `${what}: ${mend ?? ""}`).join("\n")}\n`);
  }
  if (findings.some(({ state }) => state === "fail")) process.exitCode = 1;
}

async function everything(config: CommandConfig, isPaid: boolean): Promise<Finding[]> {
  const checks: Promise<Finding[]>[] = [
    providers(config, isPaid),
    Promise.resolve(disk(config.dataDir)),
    books(placeOf(config)),
    pepper(config),
    Promise.resolve(network(config)),
    Promise.resolve(prices(config.dataDir)),
    program(config, "proxy"),
    program(config, "collector"),
    program(config, "alerts"),
    prometheus(config.prometheusPort),
    alerting(config),
    grafana(config.grafanaUrl),
  ];
  return (await Promise.all(checks)).flat();
}

/** The running proxy looks at the credentials that it holds; without one, those of this shell are looked at. */
async function providers(config: CommandConfig, isPaid: boolean): Promise<Finding[]> {
  try {
    return await heldBy(() => askProxy(config, "GET", `/admin/check${isPaid ? "?spend=1" : ""}`));
  } catch (error) {
    if (!(error instanceof ProgramGone)) return [{ what: "providers", state: "fail", said: reasonOf(error) }];
  }
  try {
    const held = loadProxyConfig(commandEnvironment());
    (await openSecrets(held, QUIET)).stop();
    const found = await checkCredentials(held, isPaid);
    return found.map((one) => ({ ...one, said: `${one.said} (asked of this shell: no proxy runs)` }));
  } catch (error) {
    return [{ what: "settings", state: "fail", said: reasonOf(error), mend: "mend keymeter.yaml or the environment" }];
  }
}

/** The same of Slack and Alertmanager, which the alerts program knows. `isSaid`: Slack alone, with a test message. */
async function alerting(config: CommandConfig, isSaid = false): Promise<Finding[]> {
  try {
    const token = readFileSync(join(config.dataDir, "webhook-token"), "utf8").trim();
    return await heldBy(() => askProgram(config, "alerts", "GET", `/check${isSaid ? "?say=1" : ""}`, undefined, token));
  } catch {
    const alerts = loadAlertsConfig(commandEnvironment());
    (await openSecrets(alerts, QUIET)).stop();
    return [
      ...(isSaid ? [] : await checkAlertmanagers(alerts)),
      ...(await checkSlack(alerts, isSaid)),
      ...(await checkReceivers(alerts, isSaid)),
    ];
  }
}

async function heldBy(ask: () => Promise<unknown>): Promise<Finding[]> {
  return ((await ask()) as { findings: Finding[] }).findings;
}

/** Without the pepper no Keymeter key is known any more. */
async function pepper(config: CommandConfig): Promise<Finding[]> {
  const { dataDir } = config;
  const path = join(dataDir, "pepper");
  if (config.pepper || existsSync(path) || !existsSync(join(dataDir, "usage.db"))) return [];
  const proxy = await get(`${urlOfProgram(config, "proxy")}/healthz`).catch(() => undefined);
  return proxy?.ok
    ? [
        {
          what: "pepper",
          state: "warn",
          said: `${path} is not there; the proxy that runs was given one, or still holds the one that was there`,
          mend: `if it was not given as KEYMETER_PEPPER: ${RESTORE.pepper}`,
        },
      ]
    : [{ what: "pepper", state: "fail", said: `${path} is gone`, mend: RESTORE.pepper }];
}

/** Who can reach more than the proxy. */
function network(config: CommandConfig): Finding[] {
  const said = openNetworkWords(config);
  return said === undefined ? [] : [{ what: "network", state: "warn", said }];
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
    return [{ what: "disk", state: "fail", said: `${dataDir}: ${reasonOf(error)}`, mend: "set KEYMETER_DATA_DIR" }];
  }
}

async function books(place: string): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const [name, maker, open] of [
    ["usage", "the proxy", openUsage],
    ["billing", "the collector", openBilling],
    ["notices", "the alerts program", openNotices],
  ] as const) {
    const what = `${name}.db`;
    try {
      const book = await open(place);
      if (!book) {
        findings.push({ what, state: "off", said: `not there yet: ${maker} makes it on its first start` });
        continue;
      }
      const damage = await findDamage(book);
      findings.push(
        damage === undefined
          ? { what, state: "ok", said: "readable and whole; `keymeter verify` recomputes it" }
          : { what, state: "fail", said: damage, mend: "stop Keymeter, keep a copy, and restore the last backup" },
      );
      await book.close();
    } catch (error) {
      findings.push({ what, state: "fail", said: reasonOf(error), mend: "look at its owner and its mode" });
    }
  }
  return [...findings, ...(await bills(place))];
}

async function bills(place: string): Promise<Finding[]> {
  const imports = await importNotes(place);
  // What is wrong with the book itself is said already.
  if (!imports) return [];
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

async function importNotes(place: string): Promise<ImportNote[] | undefined> {
  try {
    const billing = await openBilling(place);
    try {
      return billing && (await readImports(billing));
    } finally {
      await billing?.close();
    }
  } catch {
    return undefined;
  }
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

async function program(config: CommandConfig, name: Program): Promise<Finding[]> {
  const { port, url, setting, elsewhere } = PROGRAMS[name];
  const place = config[url] ?? `port ${config[port]}`;
  try {
    const answer = await get(`${urlOfProgram(config, name)}/readyz`);
    if (answer.ok) return [{ what: name, state: "ok", said: `ready on ${place}` }];
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
        said: `does not answer on ${place}: ${reasonOf(error)}`,
        mend: `start it (\`keymeter up\`), or set ${setting} to its port; where it runs in another container or on another machine, ${elsewhere}`,
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
    // It reads its first targets some seconds after it started.
    if (targets.length === 0)
      return [
        {
          what: "Prometheus",
          state: "warn",
          said: "runs, and reads nothing of Keymeter yet",
          mend: "if that stays for a minute: give it alerts/prometheus.yaml",
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
