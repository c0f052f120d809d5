// keymeter connect|disconnect CLIENT: a coding agent's own settings, pointed here and taken back byte for byte.
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { Document, isMap, isSeq, parseDocument } from "yaml";
import { didYouMean } from "../service/closest.ts";
import { localUrl } from "./holder.ts";
import { UsageError } from "./usage-error.ts";

export const USAGE = `keymeter connect claude|codex|gemini|opencode|aider|continue|cursor --key km_... [--url http://127.0.0.1:4000] [--login]
  Writes base URL and key into the client's own settings (in HOME), and says what it changed. --login: the client keeps its own sign-in
  (claude only), and the key goes beside it. Of cursor, whose settings no file holds, it says what to enter. While Keymeter is down the client's requests fail: it does not go round it.
keymeter disconnect claude|codex|gemini|opencode|aider|continue     the settings as they were before, byte for byte`;

/** Where a client has its settings, and what they become. */
type Client = {
  readonly file: readonly string[];
  /** Throws UsageError where something of its own is in the way. */
  readonly connected: (before: string | undefined, place: Place) => string;
  readonly takesLogin?: boolean;
};
type Place = { readonly url: string; readonly key: string; readonly isLogin: boolean };

const CLIENTS: { readonly [name: string]: Client } = {
  claude: {
    file: [".claude", "settings.json"],
    takesLogin: true,
    connected(before, { url, key, isLogin }) {
      const settings = readObject(before, "~/.claude/settings.json");
      const env = objectIn(settings, "env");
      // With a variable of its own set, Claude Code does not use its login.
      const own = env["ANTHROPIC_CUSTOM_HEADERS"];
      const others = typeof own === "string" ? own.split("\n").filter((line) => !/^x-keymeter-key:/i.test(line)) : [];
      const headers = [...others, `x-keymeter-key: ${key}`];
      const pointing = isLogin
        ? {
            ANTHROPIC_CUSTOM_HEADERS: headers.join("\n"),
            ANTHROPIC_AUTH_TOKEN: undefined,
            ANTHROPIC_API_KEY: undefined,
          }
        : { ANTHROPIC_AUTH_TOKEN: key, ANTHROPIC_API_KEY: undefined };
      return printed({ ...settings, env: { ...env, ANTHROPIC_BASE_URL: `${url}/anthropic`, ...pointing } });
    },
  },
  codex: {
    file: [".codex", "config.toml"],
    connected(before = "", { url, key }) {
      const taken = /^\s*(model_provider\s*=|\[model_providers\.keymeter\])/m.exec(before)?.[1];
      if (taken !== undefined)
        throw new UsageError(`~/.codex/config.toml says "${taken.trim()}" already; take that out first`);
      // What stands before the first table belongs to none.
      return `model_provider = "keymeter"\n${before}${before === "" || before.endsWith("\n") ? "" : "\n"}
[model_providers.keymeter]
name = "Keymeter"
base_url = ${JSON.stringify(`${url}/openai/v1`)}
wire_api = "responses"
http_headers = { "authorization" = ${JSON.stringify(`Bearer ${key}`)} }
env_http_headers = { "x-keymeter-repo" = "KEYMETER_REPO", "x-keymeter-branch" = "KEYMETER_BRANCH", "x-keymeter-ticket" = "KEYMETER_TICKET" }
`;
    },
  },
  gemini: {
    file: [".gemini", ".env"],
    connected(before = "", { url, key }) {
      const names = ["GOOGLE_GEMINI_BASE_URL", "GEMINI_API_KEY"];
      const taken = names.find((name) => new RegExp(`^\\s*(export\\s+)?${name}\\s*=`, "m").test(before));
      if (taken !== undefined) throw new UsageError(`~/.gemini/.env sets ${taken} already; take that out first`);
      return `${before}${before === "" || before.endsWith("\n") ? "" : "\n"}GOOGLE_GEMINI_BASE_URL=${url}/google\nGEMINI_API_KEY=${key}\n`;
    },
  },
  opencode: {
    file: [".config", "opencode", "opencode.json"],
    connected(before, { url, key }) {
      const settings = readObject(before, "~/.config/opencode/opencode.json");
      const provider = objectIn(settings, "provider");
      const pointed = Object.entries({
        anthropic: "/anthropic/v1",
        openai: "/openai/v1",
        google: "/google/v1beta",
      }).map(([name, path]) => {
        const own = objectIn(provider, name);
        return [name, { ...own, options: { ...objectIn(own, "options"), baseURL: url + path, apiKey: key } }];
      });
      return printed({ ...settings, provider: { ...provider, ...(Object.fromEntries(pointed) as object) } });
    },
  },
  aider: {
    file: [".aider.conf.yml"],
    connected(before, { url, key }) {
      const settings = readYaml(before, "~/.aider.conf.yml");
      const own = settings.get("set-env");
      const set = isSeq(own) ? own.items.map(String) : typeof own === "string" ? [own] : [];
      const others = set.filter((one) => !one.startsWith("ANTHROPIC_BASE_URL="));
      settings.set("openai-api-base", `${url}/openai/v1`);
      settings.set("openai-api-key", key);
      settings.set("anthropic-api-key", key);
      settings.set("set-env", [...others, `ANTHROPIC_BASE_URL=${url}/anthropic`]);
      return settings.toString();
    },
  },
  continue: {
    file: [".continue", "config.yaml"],
    connected(before, { url, key }) {
      const settings = readYaml(before, "~/.continue/config.yaml");
      const models = settings.get("models");
      const found = isSeq(models) ? models.items.filter(isMap) : [];
      const known = found.filter((model) => BASES[String(model.get("provider"))] !== undefined);
      if (known.length === 0)
        throw new UsageError(
          `~/.continue/config.yaml has no model of ${Object.keys(BASES).join(", ")}; add one (models: name, provider, model), then connect it`,
        );
      for (const model of known) {
        model.set("apiBase", url + (BASES[String(model.get("provider"))] ?? ""));
        model.set("apiKey", key);
      }
      return settings.toString();
    },
  },
};

/** Where Continue's providers lie behind Keymeter. */
const BASES: { readonly [provider: string]: string } = {
  openai: "/openai/v1/",
  anthropic: "/anthropic/v1/",
  gemini: "/google/v1beta/",
};

/** Clients whose settings no file holds: what a person enters. */
const BY_HAND: { readonly [name: string]: (place: Pick<Place, "url" | "key">) => string } = {
  cursor: ({ url, key }) => `Cursor keeps this in settings of its own, which no file holds. Cursor Settings > Models:
  OpenAI API Key: ${key}
  Override OpenAI Base URL: ${url}/openai/v1
Its servers send the requests, so this address has to be reached from outside, with TLS (proxy.tls). Where the second field is missing, the fields of
Azure take the base URL ${url} and any deployment. While Keymeter is down these models fail in Cursor. Switch both off to take it back.
`,
};

export function run(args: string[]): void {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      key: { type: "string" },
      url: { type: "string", default: localUrl() },
      login: { type: "boolean", default: false },
    },
  });
  const byHand = BY_HAND[positionals[0] ?? ""];
  if (byHand && values.key?.startsWith("km_"))
    return void process.stdout.write(byHand({ url: values.url.replace(/\/+$/, ""), key: values.key }));
  const [name, client] = byHand ? (["", undefined] as const) : clientOf(positionals);
  if (!values.key?.startsWith("km_") || !client)
    throw new UsageError(`which key? \`keymeter keys create --name NAME\` makes one (km_...)\n${USAGE}`);
  if (values.login && client.takesLogin !== true)
    throw new UsageError(`--login is for claude; docs/people.md says how a key goes beside other sign-ins`);
  if (!URL.canParse(values.url)) throw new UsageError(`--url ${values.url} is no URL`);
  const file = placeOf(client);
  const [saved, made] = copiesOf(file);
  if (existsSync(made))
    throw new UsageError(`${name} is connected already; \`keymeter disconnect ${name}\` takes it back first`);
  const before = existsSync(file) ? readFileSync(file, "utf8") : undefined;
  const url = values.url.replace(/\/+$/, "");
  const after = client.connected(before, { url, key: values.key, isLogin: values.login });
  mkdirSync(dirname(file), { recursive: true });
  // Of another time.
  rmSync(saved, { force: true });
  if (before !== undefined) copyFileSync(file, saved);
  writeFileSync(made, after, { mode: PRIVATE });
  // A key stands in it.
  if (before !== undefined) chmodSync(file, PRIVATE);
  writeFileSync(file, after, { mode: PRIVATE });
  process.stdout.write(
    `${file}: ${before === undefined ? "made" : "changed"}; ${name} asks ${url} from its next start on${values.login ? ", with its own sign-in" : ""}.\n` +
      `While Keymeter is down its requests fail. \`keymeter disconnect ${name}\` takes this back.\n`,
  );
}

export function disconnect(args: string[]): void {
  const { positionals } = parseArgs({ args, allowPositionals: true, options: {} });
  if (BY_HAND[positionals[0] ?? ""])
    throw new UsageError(`${positionals[0]} was not connected by a file: take what you entered there out again`);
  const [name, client] = clientOf(positionals);
  const file = placeOf(client);
  const [saved, made] = copiesOf(file);
  if (!existsSync(made)) throw new UsageError(`${name} was not connected by \`keymeter connect\` here`);
  const now = existsSync(file) ? readFileSync(file) : undefined;
  if (now === undefined || !now.equals(readFileSync(made)))
    throw new UsageError(
      `${file} was changed since it was connected, so it is left alone: take Keymeter out of it by hand${existsSync(saved) ? `; ${saved} is what it was before` : ""}, and remove ${made}`,
    );
  if (existsSync(saved)) {
    const { mode } = statSync(saved);
    renameSync(saved, file);
    chmodSync(file, mode);
  } else rmSync(file);
  rmSync(made);
  process.stdout.write(`${file}: ${existsSync(file) ? "as it was before" : "removed, as it was not there before"}.\n`);
}

/** With its comments. */
function readYaml(text: string | undefined, file: string): Document {
  if (text === undefined || text.trim() === "") return new Document({});
  const document = parseDocument(text);
  if (document.errors.length > 0 || !isMap(document.contents))
    throw new UsageError(`${file} is no YAML map: mend it, or write the settings by hand`);
  return document;
}

function clientOf(positionals: readonly string[]): [string, Client] {
  const [name = "", ...more] = positionals;
  const client = CLIENTS[name];
  if (!client || more.length > 0)
    throw new UsageError(
      `which client? ${[...Object.keys(CLIENTS), ...Object.keys(BY_HAND)].join(", ")}${didYouMean(name, Object.keys(CLIENTS))}. docs/clients.md has the settings of others`,
    );
  return [name, client];
}

const PRIVATE = 0o600;

/** Where it really is: a link of somebody's dotfiles stays one. */
function placeOf({ file }: Client): string {
  const path = join(homedir(), ...file);
  return existsSync(path) ? realpathSync(path) : path;
}

/** What it was before, and what we wrote. */
function copiesOf(file: string): [saved: string, made: string] {
  return [`${file}.before-keymeter`, `${file}.by-keymeter`];
}

type JsonObject = { readonly [name: string]: unknown };

function readObject(text: string | undefined, file: string): JsonObject {
  if (text === undefined || text.trim() === "") return {};
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed === "object" && parsed !== null && !Array.isArray(parsed)) return parsed as JsonObject;
  } catch {
    // Said below.
  }
  throw new UsageError(`${file} is no JSON object (comments are none): mend it, or write the settings by hand`);
}

function objectIn(from: JsonObject, name: string): JsonObject {
  const value = from[name];
  return typeof value === "object" && value !== null ? (value as JsonObject) : {};
}

function printed(settings: object): string {
  return `${JSON.stringify(settings, null, 2)}\n`;
}
