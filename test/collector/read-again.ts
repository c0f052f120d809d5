// Imports files into books in a process of its own, to be killed: FOLDER FILE...
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { readBillFile } from "../../collector/importers/file.ts";
import { replaceBills } from "../../ledger/billing/bills.ts";
import { openToWrite } from "../../ledger/open.ts";

const [folder = "", ...files] = process.argv.slice(2);
const billing = await openToWrite(folder, "billing", "power");
process.stdout.write("ready\n");
for (const file of files) {
  await replaceBills(
    billing,
    await readBillFile(basename(file), readFileSync(file)),
    Date.parse("2026-11-20T00:00:00Z"),
  );
  process.stdout.write(`${basename(file)}\n`);
}
await billing.close();
