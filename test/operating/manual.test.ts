// docs/operating.md against the program: verbs and options, settings, files and the shells, nginx and systemd that read
// its blocks. What it says of backup, restore and move is run in backup.test.ts, of disks and addresses in
// stack.test.ts and network.test.ts.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { RESTORE } from "../../service/secret.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { noteSkipped } from "../skipped.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const MANUAL = readFileSync(join(ROOT, "docs", "operating.md"), "utf8");
const blocksOf = (language: string): string[] =>
  [...MANUAL.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].flatMap(([, name, text = ""]) =>
    name === language ? [text] : [],
  );
/** Of the programs that a machine may have or not. */
const tool = (text: string): { status: number | null; stderr: string } =>
  spawnSync("sh", ["-c", text], { encoding: "utf8" });
const has = (command: string): boolean => tool(`command -v ${command}`).status === 0;

/** Each `keymeter ...` of the text, in whichever way it is started: its words up to the end of the command. */
const commands = [...MANUAL.matchAll(/(?:npx keymeter|node keymeter\.ts|node start\.mjs) ([a-z][^\n`|;#]*)/g)].map(
  ([, words = ""]) => words.trim().split(/\s+/),
);

describe("docs/operating.md", () => {
  it("names enough commands to be worth checking", () => {
    expect(commands.length).toBeGreaterThan(20);
  });

  it.each([...new Set(commands.map((words) => words.join(" ")))])(
    "`keymeter %s`: verb, word and options exist",
    (line) => {
      const [verb = "", ...rest] = line.split(" ");
      const verbs = readFileSync(join(ROOT, "command", "verbs.ts"), "utf8");
      expect(verbs).toContain(`\n  ${verb}: `);
      const file = join(ROOT, "command", `${verb}.ts`);
      const source = existsSync(file) ? readFileSync(file, "utf8") : "";
      const [, USAGE = ""] = /^export const USAGE =([\s\S]*?)[`"];$/m.exec(source) ?? [];
      for (const option of rest.filter((word) => word.startsWith("--"))) {
        expect(USAGE, option).toMatch(new RegExp(`${option}\\b`));
      }
      const word = rest[0];
      if (word !== undefined && /^[a-z]+$/.test(word)) expect(USAGE).toMatch(new RegExp(`\\b${word}\\b`));
    },
  );

  it("names only settings that there are", () => {
    const example = ["keymeter.example.yaml", "compose.yaml"]
      .map((name) => readFileSync(join(ROOT, name), "utf8"))
      .join("\n");
    const named = new Set([...MANUAL.matchAll(/\bKEYMETER_[A-Z_]+\b/g)].map(([name]) => name));
    expect([...named].filter((name) => name !== "KEYMETER_CONFIG" && !example.includes(name))).toEqual([]);
  });

  it("names only tests and sources that there are, and says of each procedure when it was carried out", () => {
    const named = [...MANUAL.matchAll(/`((?:test|service|docs|alerts|ledger)\/[\w./-]+)`/g)].map(
      ([, path = ""]) => path,
    );
    expect(named.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
    for (const title of [
      "Backup",
      "Restore",
      "Upgrade",
      "Move to another machine",
      "systemd",
      "TLS",
      "Behind nginx",
      "Docker",
    ])
      expect(MANUAL.split(`\n## ${title}\n`)[1]?.split("\n## ")[0], title).toMatch(/arried out 20\d\d-\d\d-\d\d/);
  });

  it.each(blocksOf("sh").map((text, i) => [i + 1, text] as const))(
    "shell block %i is one that bash reads",
    (_i, text) => {
      const read = spawnSync("bash", ["-n"], { input: text, encoding: "utf8" });
      expect(read.stderr).toBe("");
      expect(read.status).toBe(0);
    },
  );

  it("says of every secret of the data folder where it is, and restores it", () => {
    for (const name of Object.keys(RESTORE)) {
      expect(MANUAL).toMatch(new RegExp(`^\\| \`${name}\` `, "m"));
      for (const copies of ["FROM=", ".backup '"])
        expect(
          blocksOf("sh").find((text) => text.includes(copies)),
          copies,
        ).toContain(name);
    }
  });

  it("nginx takes its configuration", ({ skip }) => {
    if (!has("nginx") || !has("openssl")) skip(noteSkipped("no nginx, or no openssl: the manual's nginx block"));
    const folder = temporaryFolder();
    const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
    tool(
      `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost -keyout ${key} -out ${cert}`,
    );
    const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
      (name) => `${name}_temp_path ${folder}/${name};`,
    );
    const text = blocksOf("nginx")
      .join("\n")
      .replaceAll("/etc/nginx/tls/cert.pem", cert)
      .replaceAll("/etc/nginx/tls/key.pem", key)
      .replaceAll("listen 443", "listen 127.0.0.1:23443");
    const file = join(folder, "nginx.conf");
    writeFileSync(
      file,
      `pid ${folder}/pid; error_log ${folder}/error.log; events {} http { access_log off; ${temporary.join(" ")}\n${text}\n}\n`,
    );
    const tried = tool(`nginx -t -c ${file} -p ${folder} -e ${folder}/error.log`);
    expect(tried.status, tried.stderr).toBe(0);
    return undefined;
  });

  it("systemd takes its unit", ({ skip }) => {
    if (!has("systemd-analyze")) skip(noteSkipped("no systemd-analyze: the manual's unit"));
    const folder = join(temporaryFolder(), "units");
    mkdirSync(folder);
    const file = join(folder, "keymeter.service");
    const [unit = ""] = blocksOf("ini");
    writeFileSync(file, unit.replace("/usr/bin/node", process.execPath));
    const tried = tool(`systemd-analyze verify --man=no ${file}`);
    const own = tried.stderr.split("\n").filter((line) => line.includes("keymeter.service"));
    expect(own).toEqual([]);
    // In tenths; systemd's own word for how much of the machine the unit could reach.
    const exposed = spawnSync("systemd-analyze", ["security", "--offline=true", "--threshold=15", file], {
      encoding: "utf8",
    });
    expect(exposed.status, exposed.stdout).toBe(0);
    return undefined;
  });
});
