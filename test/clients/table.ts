// node test/clients/table.ts [NAME ...]: runs every client that is here, or those whose names hold one of these words,
// and prints what came of it as a table in Markdown. --verbose prints what each of them said.
import { CLIENTS } from "./clients.ts";
import type { Client } from "./clients.ts";
import { cap, meter, whatIsSaid } from "./measure.ts";
import type { Capped, Metered } from "./measure.ts";
import { startStand } from "./stand.ts";

const isVerbose = process.argv.includes("--verbose");
const words = process.argv.slice(2).filter((word) => !word.startsWith("--"));
const chosen = CLIENTS.filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word)));

const stand = await startStand();
try {
  print(["client", "version", "pointed", "metered", "refusals at the cap", "seconds", "what its user sees"]);
  print(["---", "---", "---", "---", "---", "---", "---"]);
  for (const client of chosen) {
    const version = client.version();
    if (version === undefined) {
      print([client.name, "not installed", client.pointed, "", "", "", ""]);
      continue;
    }
    const metered = await meter(stand, client);
    const capped = await cap(stand, client);
    if (isVerbose) for (const { output } of [metered, capped]) process.stderr.write(`--- ${client.name}\n${output}\n`);
    const seconds = `${capped.seconds.toFixed(1)}${capped.code === null ? ", ended by us" : ""}`;
    const { ownFault } = client.atCap;
    const said = whatIsSaid(client, capped.output);
    print([
      client.name,
      version,
      client.pointed,
      describe(client, metered),
      refused(capped),
      seconds,
      ownFault === undefined ? said : `${said} (its own fault: ${ownFault})`,
    ]);
  }
  const { code, text } = await stand.verify();
  process.stdout.write(`\n\`keymeter verify\`: ${code === 0 ? "ok" : text}\n`);
} finally {
  await stand.stop();
}

function print(cells: readonly string[]): void {
  process.stdout.write(`| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |\n`);
}

function describe({ calls }: Client, { counted, booked }: Metered): string {
  if (counted.length < calls) return `did not run: ${counted.length} answers of ${calls}`;
  const isExact = JSON.stringify(counted) === JSON.stringify(booked);
  return isExact ? `exact, ${counted.length}` : `${booked.length} booked, ${counted.length} answered, not the same`;
}

function refused({ refusals, others, upstream }: Capped): string {
  const more = Object.entries(others).map(([reason, count]) => `${count} ${reason}`);
  if (upstream.calls > 0) more.push(`${upstream.calls} answered`);
  if (upstream.sockets > 0) more.push(`${upstream.sockets} WebSockets opened`);
  return more.length === 0 ? String(refusals) : `${refusals} (${more.join(", ")})`;
}
