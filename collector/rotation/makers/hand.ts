// Providers without an API for keys: somebody makes the new one, hands it in, and deletes the old one.
import { inApi, probeWith } from "../maker.ts";
import type { Maker, MakerSettings } from "../maker.ts";

export function byHand({ url, probe }: Pick<MakerSettings, "url" | "probe">): Maker {
  return { probe: (value) => probeWith(inApi(url, probe.list), probe.headers(value)) };
}
