#!/usr/bin/env node
// The way in, in plain JavaScript that Node 20 runs: is everything installed, is this the right Node? Then the rest, on
// the Node 24 that comes with the project.
//   node start.mjs --install-only     installs what is missing, nothing else
//   node start.mjs COMMAND ...        keymeter COMMAND ...
import { spawn, spawnSync } from "node:child_process";
import {
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import * as nodeModule from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = dirname(fileURLToPath(import.meta.url));
const installed = join(root, "node_modules", ".package-lock.json");
const lock = join(root, "package-lock.json");
/** An install that takes longer is none any more: its process has ended, and another has its number. */
const LONGEST_INSTALL_MS = 15 * 60_000;
/** A mark is made, and then gets its number. */
const UNFILLED_MS = 5_000;
const [OLDEST_MAJOR, OLDEST_MINOR] = [24, 14];

// Installed as a dependency of something else, our own node_modules is somebody else's work.
const isCheckout = existsSync(lock);
// A linked node_modules is somebody else's as well: npm would empty it first.
const isLinked = lstatSync(join(root, "node_modules"), { throwIfNoEntry: false })?.isSymbolicLink() ?? false;
// Somebody who installs here now is waited for.
if (isCheckout && !isLinked) await waitForInstaller();
const isMissing = !existsSync(installed);
const isOld = isOlder();
// To install empties node_modules first: only what is started anew may do that, and not under what runs from here.
const installs = ["up", "demo", "--install-only"].includes(process.argv[2]) && !isRunning();
if (isCheckout && !isLinked && isOld && !installs)
  process.stderr.write(
    "keymeter: the lock file is newer than what is installed; run `npm ci` while Keymeter is stopped, or start it anew\n",
  );
if (isCheckout && !isLinked && (isMissing || (isOld && installs))) {
  const release = await takeInstall();
  // Whoever was waited for may have done it.
  const isDone = existsSync(installed) && !isOlder();
  const status = isDone ? 0 : install();
  release();
  if (status !== 0) {
    process.stderr.write(
      "keymeter: npm ci failed; the reason stands above. If it names the network or the registry, mend that and start again; if it names the lock file, please report it.\n",
    );
    process.exit(1);
  }
}

const [command, ...rest] = process.argv.slice(2);
if (command === "--install-only") process.exit(0);

// Stripping types and compiling is done once, not at each start: a third less time, a fifth less memory. Where the
// folder cannot be written, Node goes on without.
process.env.NODE_COMPILE_CACHE ??= join(root, "node_modules", ".cache", "keymeter");

const node = findNode();
// Node strips no types in a package that is installed: that one has JavaScript.
const entry = [join(root, "keymeter.ts"), join(root, "dist", "keymeter.js")].find((file) => existsSync(file));
if (entry === undefined) {
  process.stderr.write(
    "keymeter: this package has no program in it; it is made by `npm run package`, not by `npm pack`\n",
  );
  process.exit(1);
}
if (["up", "demo"].includes(command)) compile();
if (node === process.execPath) {
  nodeModule.enableCompileCache(process.env.NODE_COMPILE_CACHE);
  process.argv = [process.argv[0], entry, ...(command === undefined ? [] : [command, ...rest])];
  await import(pathToFileURL(entry));
} else {
  const child = spawn(node, [entry, ...(command === undefined ? [] : [command, ...rest])], {
    stdio: "inherit",
  });
  // A terminal sends its signals to both of us, a supervisor to this process alone; the command takes one twice for
  // one.
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => child.kill(signal));
  child.on("exit", (code, signal) => process.exit(code ?? (signal === "SIGINT" ? 130 : 1)));
}

function isOlder() {
  const time = statSync(installed, { throwIfNoEntry: false })?.mtimeMs;
  return time !== undefined && time < statSync(lock, { throwIfNoEntry: false })?.mtimeMs;
}

function install() {
  process.stderr.write("keymeter: installing what the lock file names (npm ci); this takes a minute\n");
  return spawnSync(
    process.platform === "win32" ? "npm.cmd" : "npm",
    ["ci", "--no-audit", "--no-fund", "--loglevel=error"],
    { cwd: root, stdio: ["ignore", "inherit", "inherit"], shell: process.platform === "win32" },
  ).status;
}

/** Whether a Keymeter runs from this checkout: each says so in node_modules. */
function isRunning() {
  const marks = existsSync(join(root, "node_modules")) ? readdirSync(join(root, "node_modules")) : [];
  return marks.some(
    (name) => name.startsWith(".keymeter-runs-") && lives(Number(name.slice(".keymeter-runs-".length))),
  );
}

/** Where whoever installs writes its process; outside node_modules, which npm empties. */
function installMark() {
  return join(root, ".keymeter-installs");
}

/** Two that install at once break each other: who comes second waits. A checkout that cannot be written fails in npm,
 *  with its own words. */
async function takeInstall() {
  for (;;) {
    try {
      const file = openSync(installMark(), "wx");
      writeSync(file, String(process.pid));
      closeSync(file);
      return () => rmSync(installMark(), { force: true });
    } catch (error) {
      if (error?.code !== "EEXIST") return () => undefined;
      await waitForInstaller();
    }
  }
}

async function waitForInstaller() {
  for (let said = false; ; said = true) {
    const mark = statSync(installMark(), { throwIfNoEntry: false });
    if (!mark) return;
    let pid = 0;
    try {
      pid = Number(readFileSync(installMark(), "utf8"));
    } catch {
      continue;
    }
    const age = Date.now() - mark.mtimeMs;
    const isStale = pid === 0 ? age > UNFILLED_MS : age > LONGEST_INSTALL_MS || pid === process.pid || !lives(pid);
    if (isStale) return rmSync(installMark(), { force: true });
    if (!said) process.stderr.write("keymeter: waiting for an npm ci that runs here\n");
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

function lives(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error?.code === "EPERM";
  }
}

/** Before the first start: each program loads its code and ends, which fills the folder. A program that strips types
 *  itself keeps what does it in memory. */
function compile() {
  try {
    mkdirSync(process.env.NODE_COMPILE_CACHE, { recursive: true });
    closeSync(openSync(join(process.env.NODE_COMPILE_CACHE, "compiled"), "wx"));
  } catch {
    // It was done, or cannot be kept.
    return;
  }
  process.stderr.write("keymeter: compiling, for the starts from now on\n");
  for (const program of ["up", "proxy", "collector", "alerts"])
    spawnSync(node, [entry, program, "--help"], { stdio: "ignore" });
}

function findNode() {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (major > OLDEST_MAJOR || (major === OLDEST_MAJOR && minor >= OLDEST_MINOR)) return process.execPath;
  const require = nodeModule.createRequire(import.meta.url);
  const name = `node-${process.platform === "win32" ? "win" : process.platform}-${process.arch}`;
  try {
    return join(
      dirname(require.resolve(`${name}/package.json`)),
      "bin",
      process.platform === "win32" ? "node.exe" : "node",
    );
  } catch {
    process.stderr.write(
      `keymeter: Node ${OLDEST_MAJOR}.${OLDEST_MINOR} or newer is needed, this is ${process.versions.node}, and no Node comes with the project for ${process.platform}-${process.arch}. Install it from nodejs.org.\n`,
    );
    process.exit(1);
  }
}
