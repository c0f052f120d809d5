// Keymeter's own files. They are for one user alone. A secret that is empty, gone or of another ledger stops the start,
// and so do rescued books that nobody has put back.
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openToWrite } from "../../ledger/open.ts";
import type { Mark } from "../../ledger/usage/appender.ts";
import { createDigest, issueVirtualKey } from "../../ledger/usage/keys.ts";
import { createProxy } from "../../proxy/app.ts";
import { loadProxyConfig } from "../../proxy/config.ts";
import { openLogFile } from "../../service/log-file.ts";
import { createLog } from "../../service/log.ts";
import { keepSecret, ownSecret, Secret } from "../../service/secret.ts";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { readAllEvents, startProxy, temporaryFolder } from "../start-proxy.ts";
import { ask, close, spend, writerOn } from "./spending.ts";

const DIGEST = "a".repeat(64);
const modeOf = (path: string): string => (statSync(path).mode & 0o777).toString(8);

let provider: FakeProvider;
beforeEach(async () => {
  provider = await startFakeProvider(json(chatAnswer()));
});
afterEach(() => provider.close());

describe("fault 25: files that are for one user alone", () => {
  it("books, their logs and the secrets have mode 600, whatever the mask is", async () => {
    const dataDir = join(temporaryFolder(), "data");
    const mask = process.umask(0);
    try {
      mkdirSync(dataDir);
      const running = await startProxy(provider.url, { KEYMETER_DATA_DIR: dataDir });
      await ask(running.url);
      await (await openToWrite(dataDir, "billing", "power")).close();
      const names = [
        "usage.db",
        "usage.db-wal",
        "usage.db-shm",
        "usage.db.lock",
        "billing.db",
        "pepper",
        "admin-token",
      ];
      const modes = names.map((name) => [name, modeOf(join(dataDir, name))]);
      await running.stop();
      expect(modes).toEqual(names.map((name) => [name, "600"]));
    } finally {
      process.umask(mask);
    }
  });

  it("the program logs too, also after they turned over", async () => {
    const path = join(temporaryFolder(), "proxy.log");
    const mask = process.umask(0);
    try {
      // One that was made by hand, and has nothing in it.
      writeFileSync(path, "", { mode: 0o644 });
      const log = openLogFile(path, 10);
      for (const line of ["more than ten bytes\n", "again more than ten\n"]) {
        log.write(Buffer.from(line));
        await log.end();
      }
    } finally {
      process.umask(mask);
    }
    expect([modeOf(path), modeOf(`${path}.1`)]).toEqual(["600", "600"]);
  });

  it.each([
    ["pepper", "no key is recognised. Restore the file from a backup"],
    ["admin-token", "Restore the file from a backup, or give a token as KEYMETER_ADMIN_TOKEN"],
  ] as const)("an empty %s stops the start with a sentence, and is left as it is", (name, sentence) => {
    const dataDir = temporaryFolder();
    loadProxyConfig({ KEYMETER_DATA_DIR: dataDir });
    const file = join(dataDir, name);
    for (const text of ["", "\n"]) {
      writeFileSync(file, text);
      expect(() => loadProxyConfig({ KEYMETER_DATA_DIR: dataDir })).toThrow(sentence);
      const why = text === "" ? "is empty" : "is too short to be a secret";
      expect(() => loadProxyConfig({ KEYMETER_DATA_DIR: dataDir })).toThrow(`${file} ${why}`);
      expect(readFileSync(file, "utf8")).toBe(text);
    }
  });

  const startWith = async (dataDir: string, environment: { [name: string]: string } = {}): Promise<unknown> => {
    const proxy = await createProxy(
      loadProxyConfig({ KEYMETER_DATA_DIR: dataDir, ...environment }),
      createLog("test", "silent"),
    );
    return proxy.stop();
  };

  it("a pepper of another ledger, or one that is gone, stops the start, and the next one too, until it is brought back", async () => {
    const running = await startProxy(provider.url);
    const { secret } = await running.createKey();
    await running.stop();
    const { dataDir } = running;
    const file = join(dataDir, "pepper");
    const pepper = readFileSync(file, "utf8");

    writeFileSync(file, `${"another-pepper".repeat(3)}\n`);
    await expect(startWith(dataDir)).rejects.toThrow(/its pepper is another one.*Restore the file from a backup/);
    rmSync(file);
    await expect(startWith(dataDir)).rejects.toThrow(/pepper is gone\. .*KEYMETER_PEPPER/);
    // No other pepper was made in its place: the next start says the same.
    await expect(startWith(dataDir)).rejects.toThrow(/pepper is gone\. .*KEYMETER_PEPPER/);
    expect(existsSync(file)).toBe(false);
    await expect(startWith(dataDir, { KEYMETER_PEPPER: "yet-another-pepper-of-a-test" })).rejects.toThrow(
      "another one",
    );

    // An admin token that is gone is said too; one that is given may be another one.
    writeFileSync(file, pepper);
    rmSync(join(dataDir, "admin-token"));
    await expect(startWith(dataDir)).rejects.toThrow(/its admin-token is gone, and a new one was made/);
    // What others could read before is closed.
    chmodSync(join(dataDir, "usage.db"), 0o644);
    const again = await startProxy(provider.url, {
      KEYMETER_DATA_DIR: dataDir,
      KEYMETER_ADMIN_TOKEN: "a-token-of-the-operator",
    });
    const answer = await fetch(`${again.url}/keymeter/me`, { headers: { authorization: `Bearer ${secret}` } });
    expect(answer.status).toBe(200);
    expect(modeOf(join(dataDir, "usage.db"))).toBe("600");
    await again.stop();
  });

  it("books of before peppers were marked are held to theirs by the keys in them", async () => {
    const folder = temporaryFolder();
    const mark = (isNew: boolean): Mark[] => [{ name: "pepper", digest: DIGEST, isNew, mustStay: true, restore: "!" }];
    const first = await writerOn(folder);
    const { key, secret } = issueVirtualKey({ name: "old" }, Date.now());
    await first.change({ type: "createKey", key, digest: createDigest("a pepper of before")(secret) }, "test");
    await close(first);
    await expect(writerOn(folder, { marks: mark(true) })).rejects.toThrow("its pepper is gone");
    await close(await writerOn(folder, { marks: mark(false) }));
  });

  it("a secret that is given anew takes the place of the old one, which is whole until then", () => {
    const dataDir = temporaryFolder();
    const path = join(dataDir, "metrics-token");
    keepSecret(dataDir, "metrics-token", new Secret("a-token-of-yesterday"));
    // Whoever opened the old one before has all of it.
    linkSync(path, join(dataDir, "opened before"));
    keepSecret(dataDir, "metrics-token", new Secret("a-token-of-today"));
    const textOf = (name: string): string => readFileSync(join(dataDir, name), "utf8");
    expect([textOf("metrics-token"), textOf("opened before")]).toEqual([
      "a-token-of-today\n",
      "a-token-of-yesterday\n",
    ]);
    expect([modeOf(path), readdirSync(dataDir).toSorted()]).toEqual(["600", ["metrics-token", "opened before"]]);
  });

  it("two starts at once have one secret", () => {
    const dataDir = temporaryFolder();
    const one = ownSecret(dataDir, "pepper", undefined);
    const other = ownSecret(dataDir, "pepper", undefined);
    expect([one.isNew, other.isNew, one.reveal() === other.reveal()]).toEqual([true, false, true]);
    expect(readdirSync(dataDir)).toEqual(["pepper"]);
  });
});

describe("fault 27: a start beside books that were rescued", () => {
  it("stops with a sentence that says what to put where, makes nothing, and works once it is done", async () => {
    const folder = temporaryFolder();
    const first = await writerOn(folder);
    await spend(first, 5n);
    await close(first);
    const path = join(folder, "usage.db");
    const [older, newer] = [`${path}.rescued-1764300000000`, `${path}.rescued-1764300000001`];
    writeFileSync(older, "");
    utimesSync(older, 1_764_300_000, 1_764_300_000);
    writeFileSync(newer, readFileSync(path));
    rmSync(path);

    await expect(writerOn(folder)).rejects.toThrow(`mv ${newer} ${path}`);
    expect(existsSync(path)).toBe(false);
    // An empty file in its place is nobody's books.
    writeFileSync(path, "");
    await expect(writerOn(folder)).rejects.toThrow("or move it out of the folder to start empty books");
    renameSync(newer, path);
    const restored = await writerOn(folder);
    await close(restored);
    expect((await readAllEvents(folder)).map(({ costNanoUsd }) => costNanoUsd)).toEqual(["5"]);
  });
});
