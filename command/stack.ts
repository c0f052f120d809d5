// The stack: proxy, collector and alerts as processes of their own, and Prometheus and Alertmanager where they are
// installed. Each gets only the variables that are its own, writes its log to the data folder, and is started again
// when it dies. `up` and `demo` stand on this.
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { accessSync, constants, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { delimiter, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { SHARED_SETTINGS } from "../service/config.ts";
import type { SharedConfig } from "../service/config.ts";
import { addressOf } from "../service/admin.ts";
import { innerHostOf, noteOpenNetwork } from "../service/network.ts";
import { openLogFile } from "../service/log-file.ts";
import type { Environment } from "../service/settings.ts";
import { ENTRY } from "./entry.ts";
import { environmentOf, PROGRAMS } from "./settings.ts";
import type { Program } from "./settings.ts";

export type Stack = {
  /** What is not there and how to get it: a line each. */
  readonly missing: readonly string[];
  readonly hasPrometheus: boolean;
  /** Opens the report pages, once. */
  readonly pages: string;
  /** Resolves with a sentence when a program cannot be kept running. */
  readonly broken: Promise<string>;
  stop(): Promise<void>;
};

export type StackOptions = {
  readonly config: SharedConfig;
  readonly environment: Environment;
  /** Resolves when another Keymeter on the folder has ended; absent: there is none. */
  readonly whenFree?: () => Promise<void>;
};

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** How the programs run: a small young generation and two arenas of malloc. A proxy holds many small things for a long
 *  time, which the defaults answer with a third more memory; throughput is the same (bench/README.md). */
export const PROGRAM_FLAGS = ["--max-semi-space-size=8"];
export const PROGRAM_ENVIRONMENT = { MALLOC_ARENA_MAX: "2" };

const READY_MS = 45_000;
/** As long as a timer can be. */
const MOST_MS = 2 ** 31 - 1;
/** Beyond the time for open requests: a proxy says goodbye to kept connections, and books what it has. */
const STOP_MS = 15_000;
const AGAIN_MS = 1_000;
const TOOL_AGAIN_MS = 3_000;
const NO_START_AGAIN_MS = 5_000;
/** A program that dies this often within a minute will not get well by itself. */
const MOST_DEATHS = 3;

/** Starts everything and resolves when the three programs are ready. Rejects with an Error whose message is what the
 *  program that failed had to say. */
export async function startStack(options: StackOptions): Promise<Stack> {
  const { config } = options;
  markRunning();
  mkdirSync(join(config.dataDir, "logs"), { recursive: true, mode: 0o700 });
  let reportBroken: (why: string) => void = () => {};
  const broken = new Promise<string>((resolve) => (reportBroken = resolve));
  const children: Supervised[] = [];
  const missing: string[] = [];
  let pages = "";
  const stop = async (): Promise<void> => {
    // Readers first, the proxy last: it drains, and its books are read until the end.
    for (const child of children.toReversed()) await child.stop(config.drainSeconds * 1000 + STOP_MS);
  };
  try {
    const start = async (program: Program, environment: Environment): Promise<Record<string, unknown>> => {
      const child = superviseProgram(program, { config, environment }, reportBroken);
      children.push(child);
      return await child.ready;
    };
    const open = noteOpenNetwork(config);
    if (open !== undefined) missing.push(`A closed network: ${open}.`);
    // The proxy first: where another Keymeter has the folder still, all others wait for what it has.
    const [first, ...others] = PROGRAMS;
    await start(first, options.environment);
    await options.whenFree?.();
    const tools = config.prometheus === "auto" ? await findTools(options, missing) : undefined;
    if (config.prometheus === "off")
      missing.push(
        "Prometheus is switched off (KEYMETER_PROMETHEUS=off): money alerts are evaluated by Keymeter itself; dashboards, and alerts about bills and the meter, need it.",
      );
    // Without Prometheus the alerts program need not wait for it.
    const environment = tools
      ? options.environment
      : { ...options.environment, [SHARED_SETTINGS.prometheus.env]: "off" };
    for (const program of others) {
      const ready = await start(program, environment);
      if (program === "collector") pages = String(ready["link"]);
      if (program === "alerts" && ready["slack"] === false)
        missing.push(
          "Slack: set SLACK_BOT_TOKEN (a bot token with chat:write) and SLACK_CHANNEL; until then alerts wait in the outbox.",
        );
      if (program === "collector" && Array.isArray(ready["importers"]) && ready["importers"].length === 0)
        missing.push(
          "Bills: set OPENAI_ADMIN_KEY, ANTHROPIC_ADMIN_KEY or KEYMETER_GOOGLE_BILLING_CREDENTIALS, and metered spend is compared with what is billed.",
        );
    }
    if (tools) startPrometheus(options, tools, children);
    return { missing, hasPrometheus: tools !== undefined, pages, broken, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

type Supervised = { readonly ready: Promise<Record<string, unknown>>; stop(withinMs: number): Promise<void> };

function superviseProgram(
  program: Program,
  { config, environment }: StackOptions,
  reportBroken: (why: string) => void,
): Supervised {
  const log = openLogFile(join(config.dataDir, "logs", `${program}.log`));
  let child: ChildProcess | undefined;
  let stopping = false;
  let deaths: number[] = [];
  let resolveReady: (message: Record<string, unknown>) => void;
  let rejectReady: (error: Error) => void;
  let isReady = false;
  let lastWords = "";
  const ready = new Promise<Record<string, unknown>>(
    (resolve, reject) => ([resolveReady, rejectReady] = [resolve, reject]),
  );
  const timer = setTimeout(
    () =>
      rejectReady(
        new Error(
          `${program} was not ready within ${READY_MS / 1000} s; its log: ${config.dataDir}/logs/${program}.log`,
        ),
      ),
    // Who takes over waits for as long as the other one goes on.
    config.takeOver && program === "proxy" ? MOST_MS : READY_MS,
  );

  // What cannot be started at all is tried again: its files may be on their way (an upgrade under a running program).
  const tryAgain = (error: unknown): void => {
    if (stopping) return;
    const why = error instanceof Error ? error.message : String(error);
    if (!isReady) return rejectReady(new Error(`${program} cannot be started: ${why}`, { cause: error }));
    process.stderr.write(`${program} cannot be started (${why}); it is tried again\n`);
    setTimeout(() => !stopping && start(), NO_START_AGAIN_MS);
  };
  const start = (): void => {
    try {
      child = spawn(process.execPath, [...PROGRAM_FLAGS, ENTRY, program], {
        stdio: ["ignore", "ignore", "pipe", "ipc"],
        env: { ...PROGRAM_ENVIRONMENT, ...environmentOf(program, environment), KEYMETER_SUPERVISED: "1" },
      });
    } catch (error) {
      // Some errors are thrown, others are events: a binary that is being written is one of the former.
      return tryAgain(error);
    }
    child.stderr?.on("data", (chunk: Buffer) => {
      log.write(chunk);
      const text = chunk.toString("utf8");
      lastWords = (lastWords + text).slice(-2_000);
      for (const line of text.split("\n"))
        if (isReady && /"level":(50|60)/.test(line)) process.stderr.write(`${program}: ${shorten(line)}\n`);
    });
    child.on("message", (message: Record<string, unknown>) => {
      if (message["type"] !== "ready") return;
      isReady = true;
      clearTimeout(timer);
      resolveReady(message);
    });
    child.once("error", tryAgain);
    child.once("exit", (code, signal) => {
      if (stopping) return;
      if (!isReady) {
        clearTimeout(timer);
        return rejectReady(
          new Error(
            lastWords
              .split("\n")
              .filter((line) => !line.startsWith("{"))
              .join("\n")
              .trim() || `${program} ended at start with ${code ?? signal}`,
            { cause: "start" },
          ),
        );
      }
      if (isInstalling()) return tryAgain(new Error("the packages are being installed"));
      deaths = [...deaths.filter((at) => at > Date.now() - 60_000), Date.now()];
      if (deaths.length >= MOST_DEATHS)
        return reportBroken(
          `${program} died ${MOST_DEATHS} times within a minute (last: ${code ?? signal}); its log: ${config.dataDir}/logs/${program}.log`,
        );
      process.stderr.write(
        `${program} ended with ${code ?? signal} and is started again; its log: ${config.dataDir}/logs/${program}.log\n`,
      );
      setTimeout(() => !stopping && start(), AGAIN_MS);
    });
  };
  start();
  return {
    ready,
    async stop(withinMs) {
      stopping = true;
      clearTimeout(timer);
      if (child) await endChild(child, withinMs);
      await log.end();
    },
  };
}

/** Whether npm is at work in this checkout: it empties the packages first, and writes this file last. */
function isInstalling(): boolean {
  return existsSync(join(ROOT, "package-lock.json")) && !existsSync(join(ROOT, "node_modules", ".package-lock.json"));
}

/** Says to `start.mjs` that something runs from this checkout: it does not install under it. A checkout that cannot be
 *  written cannot be installed in. */
function markRunning(): void {
  const mark = join(ROOT, "node_modules", `.keymeter-runs-${process.pid}`);
  try {
    writeFileSync(mark, "");
    process.once("exit", () => rmSync(mark, { force: true }));
  } catch {
    // Nothing to say it to.
  }
}

type Tools = { readonly prometheus: string; readonly alertmanager: string };

/** Prometheus and Alertmanager, when both are installed and their ports are free. */
async function findTools({ config, environment }: StackOptions, missing: string[]): Promise<Tools | undefined> {
  const prometheus = findProgram("prometheus", environment["PATH"]);
  const alertmanager =
    findProgram("prometheus-alertmanager", environment["PATH"]) ?? findProgram("alertmanager", environment["PATH"]);
  if (prometheus === undefined || alertmanager === undefined) {
    missing.push(
      "Prometheus and Alertmanager are not installed (Debian: apt-get install prometheus prometheus-alertmanager; or compose.yaml): money alerts are evaluated by Keymeter itself; dashboards, and alerts about bills and the meter, need them.",
    );
    return undefined;
  }
  for (const [name, port, setting] of [
    ["Prometheus", config.prometheusPort, SHARED_SETTINGS.prometheusPort.env],
    ["Alertmanager", config.alertmanagerPort, SHARED_SETTINGS.alertmanagerPort.env],
  ] as const) {
    if (!(await isFree(port))) {
      missing.push(
        `Port ${port} is taken, so ${name} was not started: money alerts are evaluated by Keymeter itself. Stop what uses it, set ${setting}.`,
      );
      return undefined;
    }
  }
  return { prometheus, alertmanager };
}

function startPrometheus({ config }: StackOptions, { prometheus, alertmanager }: Tools, children: Supervised[]): void {
  const folder = join(config.dataDir, "prometheus");
  mkdirSync(folder, { recursive: true });
  const prometheusFile = join(folder, "prometheus.yaml");
  const alertmanagerFile = join(folder, "alertmanager.yaml");
  writeFileSync(prometheusFile, adapt(readFileSync(join(ROOT, "alerts", "prometheus.yaml"), "utf8"), config));
  writeFileSync(alertmanagerFile, adapt(readFileSync(join(ROOT, "alerts", "alertmanager.yaml"), "utf8"), config));
  children.push(
    superviseTool(
      "alertmanager",
      alertmanager,
      [
        `--config.file=${alertmanagerFile}`,
        `--storage.path=${join(folder, "alertmanager")}`,
        `--web.listen-address=127.0.0.1:${config.alertmanagerPort}`,
        "--cluster.listen-address=",
      ],
      config,
    ),
  );
  children.push(
    superviseTool(
      "prometheus",
      prometheus,
      [
        `--config.file=${prometheusFile}`,
        `--storage.tsdb.path=${join(folder, "tsdb")}`,
        "--storage.tsdb.retention.time=400d",
        `--web.listen-address=127.0.0.1:${config.prometheusPort}`,
      ],
      config,
    ),
  );
}

/** The shipped configuration with the real hosts, ports and paths. */
function adapt(text: string, config: SharedConfig): string {
  const at = (port: number): string => addressOf(innerHostOf(config), port).replace("http://", "");
  return text
    .replaceAll("/etc/alertmanager/webhook-token", resolve(config.dataDir, "webhook-token"))
    .replaceAll("/etc/prometheus/metrics-token", resolve(config.dataDir, "metrics-token"))
    .replaceAll("proxy:4001", at(config.opsPort))
    .replaceAll("collector:4002", at(config.collectorPort))
    .replaceAll("alerts:4003", at(config.alertsPort))
    .replaceAll("alertmanager:9093", `127.0.0.1:${config.alertmanagerPort}`)
    .replaceAll("dashboards/*.yaml", join(ROOT, "dashboards", "rules.yaml"))
    .replaceAll("rules/*.yaml", join(ROOT, "alerts", "rules", "*.yaml"))
    .replaceAll("interval: 15s", `interval: ${config.scrapeSeconds}s`);
}

function superviseTool(name: string, path: string, args: string[], config: SharedConfig): Supervised {
  const log = openLogFile(join(config.dataDir, "logs", `${name}.log`));
  let child: ChildProcess;
  let stopping = false;
  const start = (): void => {
    // A group of its own: a terminal's Ctrl-C must reach it through us, in order.
    const started = spawn(path, args, { stdio: ["ignore", "pipe", "pipe"], detached: true, env: {} });
    started.stdout.on("data", (chunk: Buffer) => log.write(chunk));
    started.stderr.on("data", (chunk: Buffer) => log.write(chunk));
    started.once("error", (error) => process.stderr.write(`${name} cannot be started: ${error.message}\n`));
    started.once("exit", (code, signal) => {
      if (stopping) return;
      process.stderr.write(
        `${name} ended with ${code ?? signal} and is started again; its log: ${config.dataDir}/logs/${name}.log\n`,
      );
      setTimeout(() => !stopping && start(), TOOL_AGAIN_MS);
    });
    child = started;
  };
  start();
  const end = (): void => void child.kill("SIGKILL");
  process.once("exit", end);
  return {
    ready: Promise.resolve({}),
    async stop(withinMs) {
      stopping = true;
      process.removeListener("exit", end);
      await endChild(child, withinMs);
      await log.end();
    },
  };
}

async function endChild(child: ChildProcess, withinMs: number): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), withinMs);
  await exited;
  clearTimeout(timer);
}

function findProgram(name: string, searchPath: string | undefined): string | undefined {
  for (const folder of (searchPath ?? "").split(delimiter)) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once("error", () => resolve(false));
    probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)));
  });
}

/** A line of a log as a person reads it. */
function shorten(line: string): string {
  try {
    const { msg, err, error, failure } = JSON.parse(line) as {
      msg?: string;
      err?: { message?: string };
      error?: string;
      failure?: string;
    };
    return [msg, failure ?? error ?? err?.message].filter((part) => part !== undefined).join(": ");
  } catch {
    return line;
  }
}
