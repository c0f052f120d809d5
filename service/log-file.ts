// The log file of a program that is watched over: turned over at a size, so that errors of a bad night fill no disk,
// and never in the way: what a full disk does not take is dropped, and counted in the next line that it takes.
import { appendFile, chmod, rename, stat } from "node:fs/promises";

export type LogFile = {
  write(chunk: Buffer): void;
  /** Resolves when what was written is in the file, or dropped. */
  end(): Promise<void>;
};

const MOST_BYTES = 32 * 1024 * 1024;
/** Older files: program.log.1 is the last one. */
const KEPT = 3;
const MOST_WAITING_BYTES = 1024 * 1024;

export function openLogFile(path: string, mostBytes = MOST_BYTES): LogFile {
  let waiting: Buffer[] = [];
  let waitingBytes = 0;
  let dropped = 0;
  let size: number | undefined;
  let writing: Promise<void> | undefined;

  const turnOver = async (): Promise<void> => {
    for (let age = KEPT - 1; age >= 1; age--) await rename(`${path}.${age}`, `${path}.${age + 1}`).catch(ignore);
    await rename(path, `${path}.1`).catch(ignore);
    size = 0;
  };

  const writeAll = async (): Promise<void> => {
    while (waiting.length > 0) {
      const bytes = Buffer.concat(waiting);
      waiting = [];
      waitingBytes = 0;
      size ??= await stat(path).then(
        (found) => found.size,
        () => 0,
      );
      if (size > mostBytes) await turnOver();
      try {
        const said =
          dropped > 0 ? Buffer.from(`${dropped} bytes of this log were dropped: the disk did not take them\n`) : "";
        await appendFile(path, said === "" ? bytes : Buffer.concat([said, bytes]), { mode: 0o600 });
        if (size === 0) await chmod(path, 0o600);
        size += bytes.length;
        dropped = 0;
      } catch {
        // Nobody can be told but by this log; it goes on.
        dropped += bytes.length;
      }
    }
    writing = undefined;
  };

  return {
    write(chunk) {
      if (waitingBytes + chunk.length > MOST_WAITING_BYTES) {
        dropped += chunk.length;
        return;
      }
      waiting.push(chunk);
      waitingBytes += chunk.length;
      writing ??= writeAll();
    },
    async end() {
      await writing;
    },
  };
}

function ignore(): void {}
