// Providers without an API for keys: somebody makes the new one, hands it in, and deletes the old one.
import { probeWith } from "../maker.ts";
import type { Maker, MakerSettings } from "../maker.ts";

export function byHand({ url, probe }: MakerSettings): Maker {
  return { probe: (value) => probeWith(new URL(probe.list, url), probe.headers(value)) };
}
