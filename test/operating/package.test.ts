// The package of npm, as somebody gets it who has Node 24 and nothing else: packed, put into a registry on loopback, installed from
// there by npx, and run. Everything but Keymeter itself comes from the registry that npm is set to.
import { execFileSync, spawn } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, readdirSync, statSync, symlinkSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { createHash } from "node:crypto";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { freePorts } from "../free-ports.ts";
import { IS_CI } from "../seed.ts";
import { noteSkipped } from "../skipped.ts";
import { temporaryFolder } from "../start-proxy.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const MIB = 1024 * 1024;
const PATH = `${dirname(process.execPath)}${delimiter}${process.env["PATH"] ?? ""}`;
const upstream = IS_CI ? registryOfNpm() : undefined;
const isThere = upstream !== undefined && (await answers(upstream));
if (!isThere)
  noteSkipped(
    IS_CI
      ? "no registry of npm answers: the package is not installed from one"
      : "the package of npm: runs with CI=true",
  );

function registryOfNpm(): string {
  return execFileSync("npm", ["config", "get", "registry"], { encoding: "utf8" }).trim().replace(/\/$/, "");
}

function answers(registry: string): Promise<boolean> {
  return fetch(`${registry}/zod`, { method: "HEAD", signal: AbortSignal.timeout(10_000) }).then(
    ({ ok }) => ok,
    () => false,
  );
}

/** What npm needs to reach its registry from here. */
function networkOfNpm(): { readonly [name: string]: string } {
  const isOfIt = (name: string): boolean =>
    /^(?:https?_proxy|no_proxy|all_proxy|node_extra_ca_certs|ssl_cert_\w+)$/i.test(name);
  return Object.fromEntries(
    Object.entries(process.env).flatMap(([name, value]) =>
      isOfIt(name) && value !== undefined ? [[name, value]] : [],
    ),
  );
}

/** The files of this project, in a folder where a package may be made of them. */
function copyOfProject(): string {
  const folder = temporaryFolder();
  const files = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
    cwd: ROOT,
    encoding: "utf8",
    maxBuffer: 64 * MIB,
  });
  for (const file of files.split("\0").filter((one) => one !== "" && !one.startsWith("test/"))) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    cpSync(join(ROOT, file), join(folder, file));
  }
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
  return folder;
}

/** Has one package; sends on for all others. */
async function startRegistry(tarball: Buffer): Promise<{ readonly url: string; close(): void }> {
  const server = createServer((request, response) => {
    const path = request.url ?? "/";
    if (path === "/keymeter.tgz") return void response.writeHead(200).end(tarball);
    if (path !== "/keymeter") return void response.writeHead(302, { location: `${upstream}${path}` }).end();
    const manifest = {
      ...manifestIn(tarball),
      dist: { tarball: `${url}/keymeter.tgz`, integrity: integrityOf(tarball) },
    };
    const { version } = manifest as unknown as { version: string };
    const packument = { name: "keymeter", "dist-tags": { latest: version }, versions: { [version]: manifest } };
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(packument));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

function integrityOf(tarball: Buffer): string {
  return `sha512-${createHash("sha512").update(tarball).digest("base64")}`;
}

function manifestIn(tarball: Buffer): { readonly [field: string]: unknown } {
  const text = execFileSync("tar", ["-xzO", "package/package.json"], { input: tarball, encoding: "utf8" });
  return JSON.parse(text) as { readonly [field: string]: unknown };
}

function bytesIn(folder: string): number {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0);
}

describe.skipIf(!isThere)("the package of npm", () => {
  let provider: FakeProvider;
  let registry: { readonly url: string; close(): void } | undefined;
  beforeEach(async () => {
    provider = await startFakeProvider(json(chatAnswer()));
  });
  afterEach(async () => {
    await provider.close();
    registry?.close();
  });

  it("is small, brings no Node and no script that runs at the install, and `npx keymeter` meters a request", async () => {
    const project = copyOfProject();
    const before = readFileSync(join(project, "package.json"), "utf8");
    execFileSync(process.execPath, ["command/build-package.ts", project], {
      cwd: project,
      env: { ...process.env, PATH },
    });
    expect(readFileSync(join(project, "package.json"), "utf8")).toBe(before);
    const [name = ""] = readdirSync(project).filter((file) => file.endsWith(".tgz"));
    const tarball = readFileSync(join(project, name));
    expect(tarball.length).toBeLessThan(MIB);
    const manifest = manifestIn(tarball);
    for (const field of ["private", "scripts", "optionalDependencies", "devDependencies"])
      expect(manifest).not.toHaveProperty(field);

    registry = await startRegistry(tarball);
    const home = temporaryFolder();
    const folder = temporaryFolder();
    const environment = {
      ...networkOfNpm(),
      PATH,
      HOME: home,
      npm_config_registry: registry.url,
      npm_config_cache: join(home, "cache"),
      npm_config_update_notifier: "false",
      npm_config_fetch_retries: "1",
      KEYMETER_DATA_DIR: join(folder, "data"),
      KEYMETER_PROMETHEUS: "off",
      KEYMETER_OPENAI_URL: provider.url,
      OPENAI_API_KEY: "sk-of-a-provider-0123456789",
      KEYMETER_DRAIN_SECONDS: "1",
      ...(await freePorts()),
    };
    // Not waited for in this thread, which is the registry too.
    const npx = async (args: readonly string[], more: { readonly [name: string]: string } = {}): Promise<string> => {
      const env = { ...environment, ...more };
      const child = spawn("npx", ["--yes", "keymeter", ...args], {
        cwd: folder,
        env,
        stdio: ["ignore", "pipe", "pipe"],
      });
      let text = "";
      for (const stream of [child.stdout, child.stderr])
        stream.on("data", (chunk: Buffer) => (text += chunk.toString()));
      await new Promise((resolve) => child.once("close", resolve));
      return text;
    };
    expect(await npx(["--version"])).toMatch(/keymeter \d+\.\d+\.\d+ \(Node 2[4-9]/);
    const [hash = ""] = readdirSync(join(home, "cache", "_npx"));
    const installed = join(home, "cache", "_npx", hash, "node_modules");
    expect(bytesIn(installed)).toBeLessThan(150 * MIB);
    const lock = JSON.parse(readFileSync(join(installed, ".package-lock.json"), "utf8")) as {
      packages: { [path: string]: { hasInstallScript?: boolean } };
    };
    expect(Object.entries(lock.packages).flatMap(([path, one]) => (one.hasInstallScript ? [path] : []))).toEqual([]);

    const up = spawn("npx", ["--yes", "keymeter", "up"], { cwd: folder, env: environment, detached: true });
    let said = "";
    for (const stream of [up.stdout, up.stderr]) stream.on("data", (chunk: Buffer) => (said += chunk.toString()));
    const ended = new Promise((resolve) => up.once("close", resolve));
    try {
      await expect.poll(() => said, { timeout: 90_000 }).toContain("Ctrl-C stops it");
      const secret = /km_\w+/.exec(await npx(["keys", "create", "--name", "first"]))?.[0] ?? "";
      const port = environment["KEYMETER_PORT" as "PATH"];
      const answer = await fetch(`http://127.0.0.1:${port}/openai/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
        body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [{ role: "user", content: "hi" }] }),
      });
      expect(answer.status).toBe(200);
      expect(provider.journal.at(-1)?.headers.authorization).toBe("Bearer sk-of-a-provider-0123456789");
      await expect.poll(() => npx(["spend", "--by", "key"]), { timeout: 20_000 }).toContain("first");
    } finally {
      process.kill(-(up.pid ?? 0), "SIGTERM");
      await ended;
    }
    // What is left to whoever needs it says so.
    const words = await npx(["collector", "--once", "reconcile"], {
      OPENAI_ADMIN_KEY: "sk-admin-of-a-test-0123456789",
    });
    expect(words).toContain("it needs the package openai, which is not installed: npm install --no-save openai");
  }, 400_000);
});
