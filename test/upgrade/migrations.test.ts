// Migrations that were used once stay as they are, byte for byte: books that have them go on by them. A new one gets its line in
// migrations.json; a line that is there is never edited.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";

const FOLDER = new URL("../../ledger/migrations/", import.meta.url);

it("no migration was edited, renamed or left out of the list", () => {
  const files = readdirSync(FOLDER, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".sql"));
  const digests = files.toSorted().map((file) => [
    file,
    createHash("sha256")
      .update(readFileSync(new URL(file, FOLDER)))
      .digest("hex"),
  ]);
  expect(Object.fromEntries(digests)).toEqual(
    JSON.parse(readFileSync(new URL("migrations.json", import.meta.url), "utf8")),
  );
});
