// Every client that is run: how it is installed, how it is pointed at Keymeter, what it is asked, and what is known of
// it at a cap.
//   cd test/clients && npm ci && (cd promptfoo && npm ci)                                       the programs of npm
//   python3 -m venv venv/libraries && venv/libraries/bin/pip install -r requirements.txt        Python 3.12; the same with
//   python3 -m venv venv/aider && venv/aider/bin/pip install -r requirements-aider.txt          aider and gptme, whose dependencies
//   python3 -m venv venv/gptme && venv/gptme/bin/pip install -r requirements-gptme.txt          are no others' dependencies
// Left out: open-webui (its dependencies take several gigabytes); n8n, Dify, LibreChat (servers with a database of
// their own).
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Speech } from "./fake.ts";
import type { Command } from "./run.ts";

/** Where a run takes place: Keymeter, a key of it, an empty home, and a folder in it to work in. */
type Place = { readonly url: string; readonly key: string; readonly home: string; readonly folder: string };

export type Client = {
  readonly name: string;
  readonly dialect: "openai" | "anthropic" | "google" | "all";
  /** How a person points it, in a few words. */
  readonly pointed: string;
  /** Where it is installed, and its version; undefined: it is not. */
  readonly version: () => string | undefined;
  /** Writes its settings and says what is run, in order; the last one asks. */
  readonly commands: (place: Place) => readonly Command[];
  /** What the providers say to it; left out: a word. */
  readonly speech?: Speech;
  /** Answers with usage that one run needs at least. */
  readonly calls: number;
  readonly atCap: {
    /** A client that neither waits nor tries again makes no more than these. */
    readonly refusals: number;
    readonly seconds: number;
    /** What it has to print, on one line; left out: our sentence, with the budget by its name. */
    readonly prints?: RegExp;
    /** Why it may do more, or say less, than others: what is its own fault and no answer of ours can mend. */
    readonly ownFault?: string;
  };
  /** A run is ended after so many seconds; left out: 90. */
  readonly seconds?: number;
};

/** Our sentence, however it begins. */
export const NAMES_THE_BUDGET = /Keymeter: .{0,80}team capped/;

const PROMPT = "say hello";
const here = (...parts: string[]): string => join(dirname(fileURLToPath(import.meta.url)), ...parts);
const MODULES = here("node_modules");
const KEYMETER = here("..", "..", "start.mjs");

// Where things are installed.

function npmVersion(name: string, modules = MODULES): () => string | undefined {
  return () => {
    const path = join(modules, name, "package.json");
    return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as { version: string }).version : undefined;
  };
}

function pipVersion(venv: string, name: string): () => string | undefined {
  return () => {
    const lib = here("venv", venv, "lib");
    const found = (existsSync(lib) ? readdirSync(lib) : [])
      .flatMap((python) => readdirSync(join(lib, python, "site-packages")))
      .map((entry) => /^(.*)-([^-]+)\.dist-info$/.exec(entry))
      .find((parts) => parts?.[1]?.replaceAll("_", "-").toLowerCase() === name);
    return found?.[2];
  };
}

const python = (venv: string, program: string): string => here("venv", venv, "bin", program);

/** A program of npm that Node runs. */
const script = (path: string, ...args: string[]): Pick<Command, "file" | "args"> => ({
  file: process.execPath,
  args: [join(MODULES, path), ...args],
});
/** A program of npm that is a binary for this machine. */
const binary = (path: string, ...args: string[]): Pick<Command, "file" | "args"> => ({
  file: join(MODULES, path),
  args,
});
const MACHINE = `${process.platform}-${process.arch}`;

function write(path: string, content: string | object): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content, null, 2));
}

/** The three variables that `npm start` prints, with the key in the provider's own. */
const threeVariables = ({ url, key }: Place): { [name: string]: string } => ({
  OPENAI_BASE_URL: `${url}/openai/v1`,
  OPENAI_API_KEY: key,
  ANTHROPIC_BASE_URL: `${url}/anthropic`,
  ANTHROPIC_API_KEY: key,
  GOOGLE_GEMINI_BASE_URL: `${url}/google`,
  GEMINI_API_KEY: key,
});

/** Points a client here by the command that people use, in a home of its own. */
function connect(client: string, { url, key, home }: Place): void {
  const env = { PATH: process.env["PATH"] ?? "", HOME: home };
  execFileSync(process.execPath, [KEYMETER, "connect", client, "--key", key, "--url", url], { env });
}

// Agents.

const claudeCode: Client = {
  name: "Claude Code",
  dialect: "anthropic",
  pointed: "ANTHROPIC_BASE_URL",
  version: npmVersion(`@anthropic-ai/claude-code-${MACHINE}`),
  calls: 1,
  atCap: { refusals: 1, seconds: 20 },
  commands: ({ url, key }) => [
    {
      ...binary(`@anthropic-ai/claude-code-${MACHINE}/claude`, "-p", PROMPT, "--model", "claude-haiku-4-5"),
      env: {
        ANTHROPIC_BASE_URL: `${url}/anthropic`,
        ANTHROPIC_API_KEY: key,
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
        DISABLE_AUTOUPDATER: "1",
      },
    },
  ],
};

function codex(name: string, pointed: string, settings: (url: string) => string): Client {
  return {
    name,
    dialect: "openai",
    pointed,
    version: npmVersion("@openai/codex"),
    calls: 1,
    atCap: { refusals: 2, seconds: 20 },
    commands: ({ url, key, home }) => {
      const quiet = `check_for_update_on_startup = false\n`;
      write(join(home, ".codex", "config.toml"), `${quiet}${settings(url)}\n[analytics]\nenabled = false\n`);
      const args = ["exec", "--skip-git-repo-check", "-m", "gpt-5.2", PROMPT];
      return [{ ...script("@openai/codex/bin/codex.js", ...args), env: { CODEX_API_KEY: key, KEYMETER_KEY: key } }];
    },
  };
}

const codexes: readonly Client[] = [
  codex("Codex, WebSocket", "openai_base_url in config.toml", (url) => `openai_base_url = "${url}/openai/v1"`),
  codex("Codex, HTTP", "model_providers in config.toml", (url) =>
    [
      `model_provider = "keymeter"`,
      `[model_providers.keymeter]`,
      `name = "Keymeter"`,
      `base_url = "${url}/openai/v1"`,
      `env_key = "KEYMETER_KEY"`,
      `wire_api = "responses"`,
    ].join("\n"),
  ),
];

/** What its router asks for before it chooses a model, and as good an answer as any. */
const ROUTED: Speech = { text: '{"complexity_reasoning":"one word","complexity_score":1}' };

function gemini(name: string, ...args: string[]): Client {
  return {
    name,
    dialect: "google",
    speech: ROUTED,
    pointed: "GOOGLE_GEMINI_BASE_URL",
    version: npmVersion("@google/gemini-cli"),
    calls: 1,
    atCap: { refusals: 2, seconds: 30 },
    commands: ({ url, key, home }) => {
      write(join(home, ".gemini", "settings.json"), {
        security: { auth: { selectedType: "gemini-api-key" } },
        privacy: { usageStatisticsEnabled: false },
        telemetry: { enabled: false },
        general: { enableAutoUpdate: false, enableAutoUpdateNotification: false },
      });
      return [
        {
          ...script("@google/gemini-cli/bundle/gemini.js", "--skip-trust", ...args, "-p", PROMPT),
          env: { GOOGLE_GEMINI_BASE_URL: `${url}/google`, GEMINI_API_KEY: key },
        },
      ];
    },
  };
}

function opencode(provider: "openai" | "anthropic" | "google", base: string, model: string): Client {
  return {
    name: `opencode, ${provider}`,
    dialect: provider,
    pointed: `baseURL ${base} in opencode.json`,
    version: npmVersion(`opencode-${MACHINE}`),
    // The title of the session is asked for beside the prompt.
    calls: 2,
    // Where the title's refusal comes first, it asks for the title once more before it ends (one run in four).
    atCap: { refusals: 3, seconds: 30 },
    commands: ({ url, key, home }) => {
      write(join(home, ".config", "opencode", "opencode.json"), {
        autoupdate: false,
        share: "disabled",
        provider: { [provider]: { options: { baseURL: url + base, apiKey: key } } },
      });
      return [
        {
          ...binary(`opencode-${MACHINE}/bin/opencode`, "run", "-m", `${provider}/${model}`, PROMPT),
          env: {
            OPENCODE_DISABLE_AUTOUPDATE: "1",
            OPENCODE_DISABLE_LSP_DOWNLOAD: "1",
            OPENCODE_DISABLE_MODELS_FETCH: "1",
          },
        },
      ];
    },
  };
}

function openclaw(dialect: "openai" | "anthropic" | "google", api: string, base: string, model: string): Client {
  return {
    name: `OpenClaw, ${api}`,
    dialect,
    pointed: "models.providers.*.baseUrl in openclaw.json",
    version: npmVersion("openclaw"),
    calls: 1,
    atCap: {
      refusals: dialect === "google" ? 2 : 1,
      seconds: 60,
      prints: /returned a billing error/,
      ownFault: "it says one sentence of its own for all that is about money; ours stands in its log",
    },
    seconds: 120,
    commands: ({ url, key, home }) => {
      write(join(home, ".openclaw", "openclaw.json"), {
        models: {
          mode: "replace",
          providers: { keymeter: { baseUrl: url + base, apiKey: key, api, models: [{ id: model, name: model }] } },
        },
        agents: { defaults: { model: { primary: `keymeter/${model}` } } },
      });
      return [
        {
          ...script("openclaw/openclaw.mjs", "agent", "--local", "--agent", "main", "--message", PROMPT),
          env: { OPENCLAW_DISABLE_TELEMETRY: "1", OPENCLAW_NO_UPDATE_CHECK: "1", DO_NOT_TRACK: "1" },
        },
      ];
    },
  };
}

const qwen: Client = {
  name: "qwen-code",
  dialect: "openai",
  pointed: "OPENAI_BASE_URL",
  version: npmVersion("@qwen-code/qwen-code"),
  calls: 1,
  atCap: { refusals: 1, seconds: 30 },
  commands: ({ url, key, home }) => {
    write(join(home, ".qwen", "settings.json"), {
      privacy: { usageStatisticsEnabled: false },
      telemetry: { enabled: false },
      general: { enableAutoUpdate: false },
    });
    return [
      {
        ...script("@qwen-code/qwen-code/cli-entry.js", "--auth-type", "openai", "-m", "gpt-4o-mini", "-p", PROMPT),
        env: { OPENAI_BASE_URL: `${url}/openai/v1`, OPENAI_API_KEY: key, OPENAI_MODEL: "gpt-4o-mini" },
      },
    ];
  },
};

const cline: Client = {
  name: "cline",
  dialect: "openai",
  pointed: "cline auth -b",
  version: npmVersion(`@cline/cli-${MACHINE}`),
  calls: 1,
  atCap: { refusals: 1, seconds: 30 },
  commands: ({ url, key }) => {
    const env = { CLINE_TELEMETRY_DISABLED: "1", CLINE_NO_AUTO_UPDATE: "1", DO_NOT_TRACK: "1" };
    const program = `@cline/cli-${MACHINE}/bin/cline`;
    const base = `${url}/openai/v1`;
    return [
      { ...binary(program, "auth", "-p", "openai-compatible", "-k", key, "-m", "gpt-4o-mini", "-b", base), env },
      { ...binary(program, "-P", "openai-compatible", "-m", "gpt-4o-mini", PROMPT), env },
    ];
  },
};

const promptfoo: Client = {
  name: "promptfoo, 4 providers",
  dialect: "all",
  pointed: "apiBaseUrl of each provider",
  version: npmVersion("promptfoo", here("promptfoo", "node_modules")),
  calls: 4,
  atCap: { refusals: 4, seconds: 45 },
  seconds: 120,
  commands: ({ url, key, folder }) => {
    const provider = (id: string, base: string): object => ({ id, config: { apiBaseUrl: url + base, apiKey: key } });
    write(join(folder, "promptfooconfig.json"), {
      prompts: [PROMPT],
      providers: [
        provider("openai:chat:gpt-4o-mini", "/openai/v1"),
        provider("openai:responses:gpt-5.2", "/openai/v1"),
        provider("anthropic:messages:claude-haiku-4-5", "/anthropic"),
        { id: "google:gemini-2.5-flash", config: { apiBaseUrl: `${url}/google`, apiKey: key } },
      ],
    });
    const program = here("promptfoo", "node_modules", "promptfoo", "dist", "src", "entrypoint.js");
    const args = ["eval", "-c", "promptfooconfig.json", "--no-cache", "--no-progress-bar", "-o", "out.json"];
    return [
      {
        file: process.execPath,
        args: [program, ...args],
        env: {
          PROMPTFOO_DISABLE_TELEMETRY: "1",
          PROMPTFOO_DISABLE_UPDATE: "1",
          PROMPTFOO_DISABLE_REMOTE_GENERATION: "1",
        },
      },
    ];
  },
};

/** Continue's program for terminals; its editors read the same file. */
const continueCli: Client = {
  name: "Continue",
  dialect: "anthropic",
  pointed: "apiBase",
  version: npmVersion("@continuedev/cli"),
  calls: 1,
  atCap: { refusals: 1, seconds: 20 },
  commands: ({ url, key, home }) => {
    const file = join(home, ".continue", "config.yaml");
    const model = { name: "Haiku", provider: "anthropic", model: "claude-haiku-4-5", roles: ["chat"] };
    // YAML reads JSON.
    write(file, {
      name: "test",
      version: "1.0.0",
      schema: "v1",
      models: [{ ...model, apiBase: `${url}/anthropic/v1/`, apiKey: key }],
    });
    return [
      {
        ...script("@continuedev/cli/dist/cn.js", "-p", PROMPT, "--config", file),
        env: { CONTINUE_TELEMETRY_ENABLED: "0" },
      },
    ];
  },
};

const LITELLM_RETRIES =
  "LiteLLM turns a status it does not know into a plain APIError, reads no x-should-retry, and the agent tries every APIError again";

function aider(dialect: "openai" | "anthropic", model: string): Client {
  return {
    name: `aider, ${dialect}`,
    dialect,
    pointed: dialect === "openai" ? "OPENAI_API_BASE" : "ANTHROPIC_BASE_URL",
    version: pipVersion("aider", "aider-chat"),
    calls: 1,
    atCap: { refusals: 12, seconds: 90, ownFault: LITELLM_RETRIES },
    seconds: 110,
    commands: ({ url, key }) => {
      const quiet = [
        "--no-git",
        "--yes-always",
        "--no-check-update",
        "--analytics-disable",
        "--no-show-model-warnings",
      ];
      const plain = ["--no-pretty", "--no-stream", "--no-show-release-notes", "--map-tokens", "0"];
      return [
        {
          file: python("aider", "aider"),
          args: ["--model", model, ...quiet, ...plain, "--message", PROMPT],
          env: {
            OPENAI_API_BASE: `${url}/openai/v1`,
            OPENAI_API_KEY: key,
            ANTHROPIC_BASE_URL: `${url}/anthropic`,
            ANTHROPIC_API_KEY: key,
            LITELLM_LOCAL_MODEL_COST_MAP: "True",
          },
        },
      ];
    },
  };
}

const miniSweAgent: Client = {
  name: "mini-swe-agent",
  dialect: "openai",
  pointed: "OPENAI_BASE_URL",
  version: pipVersion("libraries", "mini-swe-agent"),
  calls: 1,
  speech: { text: "done", tool: { name: "bash", input: { command: "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT" } } },
  atCap: { refusals: 12, seconds: 120, ownFault: LITELLM_RETRIES },
  seconds: 60,
  commands: ({ url, key }) => [
    {
      file: python("libraries", "mini"),
      args: ["-y", "--exit-immediately", "-m", "openai/gpt-4o-mini", "-t", PROMPT],
      env: {
        OPENAI_BASE_URL: `${url}/openai/v1`,
        OPENAI_API_KEY: key,
        MSWEA_CONFIGURED: "true",
        MSWEA_SILENT_STARTUP: "1",
        MSWEA_COST_TRACKING: "ignore_errors",
        LITELLM_LOCAL_MODEL_COST_MAP: "True",
      },
    },
  ],
};

const gptme: Client = {
  name: "gptme",
  dialect: "openai",
  pointed: "OPENAI_BASE_URL",
  version: pipVersion("gptme", "gptme"),
  calls: 1,
  speech: { text: "done", tool: { name: "complete", input: {} } },
  atCap: { refusals: 1, seconds: 30 },
  commands: ({ url, key }) => [
    {
      file: python("gptme", "gptme"),
      args: ["--non-interactive", "--no-stream", "-m", "openai/gpt-4o-mini", PROMPT],
      env: { OPENAI_BASE_URL: `${url}/openai/v1`, OPENAI_API_KEY: key },
    },
  ],
};

const llm: Client = {
  name: "llm",
  dialect: "openai",
  pointed: "OPENAI_BASE_URL",
  version: pipVersion("libraries", "llm"),
  calls: 1,
  atCap: { refusals: 1, seconds: 20 },
  commands: ({ url, key }) => [
    {
      file: python("libraries", "llm"),
      args: ["-m", "gpt-4o-mini", PROMPT],
      env: { OPENAI_BASE_URL: `${url}/openai/v1`, OPENAI_API_KEY: key },
    },
  ],
};

// Libraries: one part of libraries.mjs or libraries.py each, which makes so many calls and prints each error.

function js(part: string, dialect: Client["dialect"], calls: number, packageName: string): Client {
  return {
    name: `${part} (JS)`,
    dialect,
    pointed: "base URL option",
    version: npmVersion(packageName),
    calls,
    atCap: { refusals: calls, seconds: 20 },
    commands: (place) => [
      {
        file: process.execPath,
        args: [here("libraries.mjs"), part],
        env: { ...threeVariables(place), KEYMETER_URL: place.url },
      },
    ],
  };
}

function py(part: string, dialect: Client["dialect"], calls: number, packageName: string, speech?: Speech): Client {
  return {
    name: `${part} (Python)`,
    dialect,
    pointed: `the three variables that npm start prints${part === "litellm" ? ", and api_base for Google" : ""}`,
    version: pipVersion("libraries", packageName),
    calls,
    ...(speech ? { speech } : {}),
    atCap: { refusals: calls, seconds: 45 },
    commands: (place) => [
      {
        file: python("libraries", "python"),
        args: [here("libraries.py"), part],
        env: {
          ...threeVariables(place),
          LITELLM_LOCAL_MODEL_COST_MAP: "True",
          OPENAI_AGENTS_DISABLE_TRACING: "1",
          PYTHONDONTWRITEBYTECODE: "1",
          PYTHONWARNINGS: "ignore",
        },
      },
    ],
  };
}

/** The same, pointed by `keymeter connect` alone: what it sets itself for that is left out. */
function byConnect(client: Client, as: string, ...files: readonly (readonly string[])[]): Client {
  return {
    ...client,
    name: `${client.name}, by keymeter connect`,
    pointed: `keymeter connect ${as}`,
    commands(place) {
      const commands = client.commands(place);
      for (const file of files) rmSync(join(place.home, ...file), { force: true });
      connect(as, place);
      const isPointing = (name: string): boolean => /_BASE_URL$|_API_BASE$|_API_KEY$|^KEYMETER_KEY$/.test(name);
      return commands.map((command) => ({
        ...command,
        env: Object.fromEntries(Object.entries(command.env ?? {}).filter(([name]) => !isPointing(name))),
      }));
    },
  };
}

export const CLIENTS: readonly Client[] = [
  claudeCode,
  byConnect(claudeCode, "claude"),
  byConnect(
    codex("Codex", "", () => ""),
    "codex",
  ),
  byConnect(gemini("gemini-cli", "-m", "gemini-2.5-flash"), "gemini"),
  byConnect(opencode("anthropic", "", "claude-haiku-4-5"), "opencode", [".config", "opencode", "opencode.json"]),
  ...codexes,
  gemini("gemini-cli, -m", "-m", "gemini-2.5-flash"),
  gemini("gemini-cli, its own model, JSON", "-o", "json"),
  opencode("anthropic", "/anthropic/v1", "claude-haiku-4-5"),
  opencode("openai", "/openai/v1", "gpt-5.2"),
  opencode("google", "/google/v1beta", "gemini-2.5-flash"),
  openclaw("openai", "openai-responses", "/openai/v1", "gpt-5.2"),
  openclaw("anthropic", "anthropic-messages", "/anthropic", "claude-haiku-4-5"),
  openclaw("google", "google-generative-ai", "/google/v1beta", "gemini-2.5-flash"),
  qwen,
  cline,
  promptfoo,
  aider("openai", "openai/gpt-4o-mini"),
  aider("anthropic", "anthropic/claude-haiku-4-5"),
  byConnect(aider("openai", "openai/gpt-4o-mini"), "aider"),
  byConnect(aider("anthropic", "anthropic/claude-haiku-4-5"), "aider"),
  byConnect(continueCli, "continue"),
  miniSweAgent,
  gptme,
  llm,
  js("openai", "openai", 5, "openai"),
  js("anthropic", "anthropic", 2, "@anthropic-ai/sdk"),
  js("genai", "google", 2, "@google/genai"),
  js("ai", "all", 8, "ai"),
  js("langchain-openai", "openai", 4, "@langchain/openai"),
  js("langchain-anthropic", "anthropic", 2, "@langchain/anthropic"),
  js("langchain-google", "google", 2, "@langchain/google-genai"),
  js("llamaindex-openai", "openai", 2, "@llamaindex/openai"),
  py("openai", "openai", 5, "openai"),
  py("anthropic", "anthropic", 2, "anthropic"),
  py("google-genai", "google", 2, "google-genai"),
  py("litellm", "all", 3, "litellm"),
  py("langchain-openai", "openai", 2, "langchain-openai"),
  py("langchain-anthropic", "anthropic", 2, "langchain-anthropic"),
  py("langchain-google", "google", 2, "langchain-google-genai"),
  py("openai-agents", "openai", 1, "openai-agents"),
  py("pydantic-ai", "all", 2, "pydantic-ai-slim"),
  py("smolagents", "openai", 1, "smolagents", { text: '<code>\nfinal_answer("hello")\n</code>' }),
  py("instructor", "openai", 1, "instructor"),
];
