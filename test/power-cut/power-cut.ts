// A power cut, emulated: from the record of what a program did to its files (record.c), the files as a disk may hold
// them after a cut at any instant.
//
// What was made durable is there: changes of a file by an fsync of that file, names by one of their folder, which began
// after the change had returned and itself returned, without an error, before the cut. Every other change that had begun
// by then is there or not, a write also in part, by sectors of 512 bytes, as is chosen. A sector goes to the disk as it
// is in memory then, so with one write all earlier ones to its sector are there. What a failed fsync should have kept is
// kept by no later one either: Linux takes it for written.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";

/** Of one change that is not durable, which of its parts have reached the disk: a write has one for each sector, and a
 *  last one for the size, any other change a single one. */
export type Choose = (parts: number) => (part: number) => boolean;

/** The luckiest disk, and the unluckiest. */
export const EVERYTHING: Choose = () => () => true;
export const NOTHING: Choose = () => () => false;

/** A disk with more or less luck: of each change all, nothing or any of its parts. `next` gives numbers in [0, 1). */
export function byChance(next: () => number): Choose {
  const luck = next();
  return () => {
    if (next() < luck) return () => true;
    return next() < 0.5 ? () => false : () => next() < 0.5;
  };
}

/** A file, whatever it is called at an instant: the place of its creation in the record. */
type FileId = number;

type Change =
  | { readonly type: "write"; readonly file: FileId; readonly offset: number; readonly bytes: Buffer }
  | { readonly type: "size"; readonly file: FileId; readonly size: number }
  /** What names mean from now on; nothing, where they are gone. All of one change, or none. */
  | { readonly type: "names"; readonly names: ReadonlyMap<string, FileId | undefined> };

/** An fsync that returned, of a file or of a folder's names. What stands before `since` had returned when it began. */
type Sync = {
  readonly type: "sync";
  readonly of: FileId | string;
  readonly since: number;
  readonly failed: boolean;
};

type Entry = (Change | Sync) & { readonly beganNs: bigint; readonly endedNs: bigint };

export type Recording = {
  readonly folder: string;
  readonly entries: readonly Entry[];
  /** How far each file ever reached, in bytes. */
  readonly reach: ReadonlyMap<FileId, number>;
};

/** What lies on a disk: the bytes of each file by its path in the folder. */
export type Disk = ReadonlyMap<string, Buffer>;

const SECTOR = 512;

/** The files after a cut at this instant of CLOCK_MONOTONIC (process.hrtime.bigint()). */
export function diskAt({ folder, entries, reach }: Recording, cutNs: bigint, choose: Choose): Disk {
  const durable = findDurable(entries, cutNs);
  const names = new Map<string, FileId>();
  const files = new Map<FileId, TwoStates>();
  const stateOf = (id: FileId): TwoStates => {
    const known = files.get(id) ?? new TwoStates(reach.get(id) ?? 0);
    files.set(id, known);
    return known;
  };
  for (const [place, entry] of entries.entries()) {
    if (entry.type === "sync" || entry.beganNs >= cutNs) continue;
    const chosen = durable.has(place) ? EVERYTHING : choose;
    if (entry.type === "write") stateOf(entry.file).write(entry.offset, entry.bytes, chosen);
    else if (entry.type === "size") stateOf(entry.file).resize(entry.size, chosen);
    else if (chosen(1)(0))
      for (const [name, file] of entry.names)
        if (file === undefined) names.delete(name);
        else names.set(name, file);
  }
  return new Map([...names].map(([name, file]) => [relative(folder, name), stateOf(file).onDisk()]));
}

/** Writes the files into a folder. */
export function layOut(disk: Disk, folder: string): void {
  for (const [name, bytes] of disk) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), bytes, { mode: 0o600 });
  }
}

/** The changes that are on the disk whatever happens, by their places in the record. */
function findDurable(entries: readonly Entry[], cutNs: bigint): ReadonlySet<number> {
  const durable = new Set<number>();
  const waiting = new Map<FileId | string, number[]>();
  for (const [place, entry] of entries.entries()) {
    if (entry.type !== "sync") {
      for (const target of targetsOf(entry)) {
        const places = waiting.get(target);
        if (places) places.push(place);
        else waiting.set(target, [place]);
      }
    } else if (entry.endedNs < cutNs) {
      const places = waiting.get(entry.of) ?? [];
      const isMeant = (one: number): boolean => one < entry.since;
      if (!entry.failed) for (const one of places.filter(isMeant)) durable.add(one);
      waiting.set(
        entry.of,
        places.filter((one) => !isMeant(one)),
      );
    }
  }
  return durable;
}

/** Whose fsync keeps a change. */
function targetsOf(change: Change): Iterable<FileId | string> {
  return change.type === "names" ? new Set([...change.names.keys()].map((name) => dirname(name))) : [change.file];
}

/** A file as the program sees it, and as the disk has it. */
class TwoStates {
  readonly #seen: Buffer;
  readonly #disk: Buffer;
  #seenSize = 0;
  #diskSize = 0;

  constructor(reach: number) {
    this.#seen = Buffer.alloc(reach);
    this.#disk = Buffer.alloc(reach);
  }

  write(offset: number, bytes: Buffer, choose: Choose): void {
    bytes.copy(this.#seen, offset);
    this.#seenSize = Math.max(this.#seenSize, offset + bytes.length);
    const first = Math.floor(offset / SECTOR);
    const sectors = Math.ceil((offset + bytes.length) / SECTOR) - first;
    const isThere = choose(sectors + 1);
    for (let sector = 0; sector < sectors; sector++) {
      const from = (first + sector) * SECTOR;
      if (isThere(sector)) this.#seen.copy(this.#disk, from, from, Math.min(from + SECTOR, this.#seenSize));
    }
    if (isThere(sectors)) this.#diskSize = this.#seenSize;
  }

  resize(size: number, choose: Choose): void {
    this.#seen.fill(0, size);
    this.#seenSize = size;
    if (!choose(1)(0)) return;
    this.#disk.fill(0, size);
    this.#diskSize = size;
  }

  onDisk(): Buffer {
    return this.#disk.subarray(0, this.#diskSize);
  }
}

/** As record.c numbers them. */
const KINDS = ["none", "create", "write", "size", "unlink", "rename", "link", "syncBegan", "syncReturned"] as const;
const HEAD_BYTES = 40;

/** What stands in a record of what was done in a folder that was empty when it began; of a record that breaks off, all
 *  that is whole. */
export function readRecording(file: string, folder: string): Recording {
  const text = readFileSync(file);
  const names = new Map<string, FileId>();
  const began = new Map<string, Pick<Sync, "of" | "since">>();
  const entries: Entry[] = [];
  const reach = new Map<FileId, number>();
  const idOf = (path: string): FileId => {
    const id = names.get(path);
    if (id === undefined) throw new Error(`${file} has a change of ${path} that nothing made`);
    return id;
  };
  const rename = (...now: (readonly [string, FileId | undefined])[]): Change => {
    for (const [name, id] of now)
      if (id === undefined) names.delete(name);
      else names.set(name, id);
    return { type: "names", names: new Map(now) };
  };
  const extend = (id: FileId, end: number): void => void reach.set(id, Math.max(reach.get(id) ?? 0, end));

  const read = ({ kind, path, number, data, beganNs }: Raw): Change | Sync | undefined => {
    // A file without a name is of no use after a cut.
    if (path.endsWith(" (deleted)")) return undefined;
    switch (kind) {
      case "create":
        return rename([path, entries.length]);
      case "unlink":
        return rename([path, undefined]);
      case "rename":
        return rename([data.toString(), idOf(path)], [path, undefined]);
      case "link":
        return rename([data.toString(), idOf(path)]);
      case "write":
        extend(idOf(path), number + data.length);
        return { type: "write", file: idOf(path), offset: number, bytes: data };
      case "size":
        extend(idOf(path), number);
        return { type: "size", file: idOf(path), size: number };
      case "syncBegan":
        began.set(`${path} ${beganNs}`, { of: names.get(path) ?? path, since: entries.length });
        return undefined;
      case "syncReturned": {
        const sync = began.get(`${path} ${beganNs}`);
        return sync && { type: "sync", ...sync, failed: number !== 0 };
      }
      case "none":
        throw new Error(`${file} is no record`);
    }
  };

  for (const raw of walk(text)) {
    const entry = read(raw);
    if (entry) entries.push({ ...entry, beganNs: raw.beganNs, endedNs: raw.endedNs });
  }
  return { folder, entries, reach };
}

type Raw = {
  readonly kind: (typeof KINDS)[number];
  readonly path: string;
  readonly number: number;
  readonly data: Buffer;
  readonly beganNs: bigint;
  readonly endedNs: bigint;
};

function* walk(text: Buffer): Generator<Raw> {
  for (let at = 0; at + HEAD_BYTES <= text.length;) {
    const pathEnd = at + HEAD_BYTES + text.readUInt32LE(at + 4);
    const end = pathEnd + Number(text.readBigUInt64LE(at + 32));
    if (end > text.length) return;
    yield {
      kind: KINDS[text.readUInt32LE(at)] ?? "none",
      path: text.toString("utf8", at + HEAD_BYTES, pathEnd),
      number: Number(text.readBigInt64LE(at + 24)),
      data: text.subarray(pathEnd, end),
      beganNs: text.readBigUInt64LE(at + 8),
      endedNs: text.readBigUInt64LE(at + 16),
    };
    at = end;
  }
}
