// Progress of long work: one line that changes, and only where somebody looks.
export type Progress = { show(text: string): void; end(): void };

const EVERY_MS = 100;

export function createProgress(): Progress {
  if (!process.stderr.isTTY) return { show: () => undefined, end: () => undefined };
  let lastMs = 0;
  let isShown = false;
  return {
    show(text) {
      if (Date.now() - lastMs < EVERY_MS) return;
      lastMs = Date.now();
      isShown = true;
      process.stderr.write(`\r\u001b[K${text}`);
    },
    end() {
      if (isShown) process.stderr.write("\r\u001b[K");
      isShown = false;
    },
  };
}
