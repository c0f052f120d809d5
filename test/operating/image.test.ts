// The image as it ships, built and run by buildah and podman: small, no shell, a root that is read only, no rights; a metered request,
// a restart, an upgrade, all programs, and what draws pictures. The base comes from a registry that tests do not ask: a stand-in of
// Debian and our Node has its name.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { freePorts } from "../free-ports.ts";
import { IS_CI } from "../seed.ts";
import { noteSkipped } from "../skipped.ts";
import { temporaryFolder } from "../start-proxy.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const TOOLS = ["buildah", "podman", "runc", "mmdebstrap", "npm"];
const BASE = "docker.io/library/node:24-slim";
const IMAGE = "localhost/keymeter:test";
/** Within what this machine may raise. */
const LIMITS = "--ulimit nofile=1024:1024 --ulimit nproc=1024:1024";
const MOST_BYTES = 260 * 1024 * 1024;

const find = (tool: string): string =>
  spawnSync("sh", ["-c", `command -v ${tool}`], { encoding: "utf8" }).stdout.trim();
const missing = TOOLS.filter((tool) => find(tool) === "");
const why = !IS_CI
  ? "the image: built and run with CI=true"
  : process.getuid?.() !== 0
    ? "the image: buildah and runc want root here"
    : missing.length > 0
      ? `the image: ${missing.join(", ")} not installed`
      : undefined;
if (why !== undefined) noteSkipped(why);

const folder = temporaryFolder();
const STORE = ["--storage-driver", "overlay", "--root", join(folder, "store"), "--runroot", join(folder, "run")];

function run(command: string, ...words: string[]): { readonly code: number | null; readonly text: string } {
  const done = spawnSync(command, words, { encoding: "utf8", cwd: ROOT, maxBuffer: 64 * 1024 * 1024 });
  return { code: done.status, text: `${done.stdout}${done.stderr}` };
}

/** Says what went wrong, and stops. */
function must(command: string, ...words: string[]): string {
  const { code, text } = run(command, ...words);
  if (code !== 0) throw new Error(`${command} ${words.slice(0, 12).join(" ")}: ${code}\n${text.slice(-3_000)}`);
  return text;
}
const buildah = (...words: string[]): string => must("buildah", ...STORE, ...words).trim();
const podman = (...words: string[]): ReturnType<typeof run> => run("podman", ...STORE, "--runtime", "runc", ...words);

/** Debian with our Node and npm, under the name of the base. */
function makeBase(): void {
  const system = join(folder, "system.tar");
  must("mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates", "bookworm", system);
  const base = buildah("from", "scratch");
  buildah("add", base, system, "/");
  buildah("copy", base, realpathSync(process.execPath), "/usr/local/bin/node");
  buildah("copy", base, join(realpathSync(find("npm")), "../.."), "/usr/local/lib/node_modules/npm");
  // Where a network has certificates of its own, they are the machine's.
  const certificates = "/etc/ssl/certs/ca-certificates.crt";
  if (existsSync(certificates)) buildah("copy", base, certificates, certificates);
  buildah(
    "run",
    "--isolation",
    "chroot",
    base,
    "--",
    "ln",
    "-s",
    "../lib/node_modules/npm/bin/npm-cli.js",
    "/usr/local/bin/npm",
  );
  buildah("config", "--env", `NODE_EXTRA_CA_CERTS=${certificates}`, "--env", "PATH=/usr/local/bin:/usr/bin:/bin", base);
  buildah("commit", "--quiet", "--rm", base, BASE);
}

describe.skipIf(why !== undefined)("the image", () => {
  let provider: FakeProvider;
  let ports: { [name: string]: string };
  /** Why this machine runs no container at all, whichever. */
  let cannot: string | undefined;
  const data = join(folder, "data");

  /** One of its programs, as compose.yaml runs it. */
  function start(program: string): string {
    const name = `keymeter-test-${process.pid}-${program}`;
    const given = { ...ports, KEYMETER_OPENAI_URL: provider.url, OPENAI_API_KEY: "sk-of-the-image-0123456789" };
    const flags = `run --detach --name ${name} --network host --read-only --tmpfs /tmp --user 10001:10001 --cap-drop ALL
      --security-opt no-new-privileges ${LIMITS} --volume ${data}:/data`.split(/\s+/);
    const environment = Object.entries(given).flatMap(([key, value]) => ["--env", `${key}=${value}`]);
    const { code, text } = podman(...flags, ...environment, IMAGE, program);
    if (code !== 0) throw new Error(text);
    return name;
  }
  const inside = (name: string, ...words: string[]): ReturnType<typeof run> => podman("exec", name, ...words);
  const keymeter = (name: string, ...words: string[]): ReturnType<typeof run> =>
    inside(name, "node", "keymeter.ts", ...words);
  const ready = (port: string): Promise<void> =>
    expect
      .poll(
        () =>
          fetch(`http://127.0.0.1:${ports[port]}/readyz`).then(
            ({ status }) => status,
            () => 0,
          ),
        { timeout: 30_000 },
      )
      .toBe(200);
  const ask = async (key: string): Promise<number> => {
    const answer = await fetch(`http://127.0.0.1:${ports["KEYMETER_PORT"]}/openai/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
      body: JSON.stringify({ model: "gpt-4o-mini", messages: [] }),
    });
    await answer.text();
    return answer.status;
  };

  beforeAll(async () => {
    provider = await startFakeProvider(json(chatAnswer()));
    ports = await freePorts();
    mkdirSync(data);
    must("chown", "10001:10001", data);
    try {
      makeBase();
      const { code, text } = podman(
        ..."run --rm --network host".split(" "),
        ...LIMITS.split(" "),
        BASE,
        "node",
        "--version",
      );
      if (code !== 0) throw new Error(text);
    } catch (error) {
      cannot = noteSkipped(
        `the image: no container runs here (${error instanceof Error ? error.message.slice(0, 300) : ""})`,
      );
      return;
    }
    buildah(
      "build",
      "--isolation",
      "chroot",
      "--pull=never",
      "--format",
      "docker",
      "--network",
      "host",
      "--quiet",
      "--tag",
      IMAGE,
      ".",
    );
  }, 600_000);
  afterAll(async () => {
    podman("rm", "--all", "--force", "--time", "2");
    // Layers hold mounts.
    buildah("rm", "--all");
    await provider?.close();
  }, 60_000);

  it("is small, has a user without rights, a health check, and neither a shell nor a package manager", ({ skip }) => {
    if (cannot !== undefined) skip(cannot);
    const [{ Size: size, Config: config }] = JSON.parse(must("podman", ...STORE, "inspect", IMAGE)) as [
      { Size: number; Config: { User: string; Entrypoint: string[]; Volumes: object } },
    ];
    expect(size).toBeLessThan(MOST_BYTES);
    expect([config.User, Object.keys(config.Volumes)]).toEqual(["10001:10001", ["/data"]]);
    const own = `run --rm --network host ${LIMITS}`.split(" ");
    expect(podman(...own, IMAGE, "--version").text).toContain("keymeter ");
    for (const tool of ["sh", "bash", "npm", "apt", "curl"])
      expect(podman(...own, "--entrypoint", tool, IMAGE).text).toMatch(/not found|no such file/);
  });

  it(
    "meters a request, goes on after a restart and an upgrade, with all programs and pictures, and writes nothing but its data",
    { timeout: 300_000 },
    async ({ skip }) => {
      if (cannot !== undefined) skip(cannot);
      const proxy = start("proxy");
      await ready("KEYMETER_OPS_PORT");
      const made = keymeter(proxy, "keys", "create", "--name", "ci", "--budget", "5/month", "--hard", "--json");
      const { key } = JSON.parse(made.text.split("\n").find((line) => line.startsWith("{")) ?? "{}") as { key: string };
      expect(await ask(key)).toBe(200);
      expect(keymeter(proxy, "spend", "--by", "key").text).toMatch(/ci .*\$0\.00/);
      const [{ Config: config }] = JSON.parse(must("podman", ...STORE, "inspect", proxy)) as [
        { Config: { Healthcheck: { Test: string[] } } },
      ];
      const [, ...health] = config.Healthcheck.Test;
      expect(inside(proxy, ...health).code).toBe(0);
      for (const place of ["/app/x", "/etc/x", "/x", "/usr/local/bin/x"])
        expect(inside(proxy, "node", "-e", `require("fs").writeFileSync("${place}", "")`).text).toMatch(/EROFS|EACCES/);

      const [collector, alerts] = [start("collector"), start("alerts")];
      await ready("KEYMETER_COLLECTOR_PORT");
      await ready("KEYMETER_ALERTS_PORT");
      expect(inside(collector, ...health).code).toBe(0);
      expect(keymeter(collector, "pages").text).toContain("/login?link=");
      expect(keymeter(collector, "verify").text).toContain("the audit chain is whole");
      // Who closes a day has a name there.
      expect(keymeter(collector, "close", "2026-01-01").text).toContain("no bill has been read");
      const drawn = inside(alerts, "node", "charts/example.ts", "/tmp/example.png");
      expect([drawn.code, drawn.text]).toEqual([0, expect.any(String)]);
      const mark = 'process.stdout.write(require("fs").readFileSync("/tmp/example.png").subarray(1, 4))';
      expect(inside(alerts, "node", "-e", mark).text).toBe("PNG");

      // A restart, and the container of another image in its place: the key is known, and what it spent.
      expect(podman("restart", "--time", "20", proxy).code).toBe(0);
      await ready("KEYMETER_OPS_PORT");
      expect(await ask(key)).toBe(200);
      expect(podman("stop", "--time", "20", proxy).code).toBe(0);
      expect(podman("inspect", "--format", "{{.State.ExitCode}}", proxy).text.trim()).toBe("0");
      podman("rm", proxy);
      const next = start("proxy");
      await ready("KEYMETER_OPS_PORT");
      expect(await ask(key)).toBe(200);
      expect(JSON.parse(keymeter(next, "spend", "--by", "key", "--json").text.split("\n")[0] ?? "")).toMatchObject({
        rows: [{ requests: 3 }],
      });
      for (const name of [collector, alerts, next]) {
        expect(podman("stop", "--time", "20", name).code).toBe(0);
        expect(podman("inspect", "--format", "{{.State.ExitCode}}", name).text.trim()).toBe("0");
      }
    },
  );
});
