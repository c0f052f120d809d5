// What a request needs of the program: made once, in app.ts, and handed down.
import type { Expectations } from "../ledger/usage/expectations.ts";
import type { BillingBooks } from "../ledger/books.ts";
import type { Late } from "../service/late.ts";
import type { PriceBook } from "../ledger/prices/price-book.ts";
import type { Unmetered } from "./unmetered.ts";
import type { UsageBooks } from "../ledger/books.ts";
import type { Writer } from "../ledger/usage/writer.ts";
import type { Log } from "../service/log.ts";
import type { Bodies } from "./bodies.ts";
import type { ProxyConfig } from "./config.ts";
import type { Forwarder } from "./forward.ts";
import type { Limiter } from "./limits.ts";
import type { SeatCaps } from "./seat-caps.ts";
import type { People } from "./people.ts";
import type { Patience } from "./patience.ts";
import type { Metrics } from "./metrics.ts";
import type { Caches } from "./caches.ts";
import type { Lengths } from "./lengths.ts";
import type { Names } from "./names.ts";
import type { Providers } from "./providers/index.ts";
import type { Readers } from "./readers.ts";
import type { Register } from "./register.ts";
import type { Sightings } from "./sightings.ts";
import type { Things } from "./things.ts";
import type { Work } from "./work.ts";

export type ProxyContext = {
  readonly config: ProxyConfig;
  readonly providers: Providers;
  readonly register: Register;
  readonly readers: Readers;
  readonly bodies: Bodies;
  readonly limiter: Limiter;
  readonly seatCaps: SeatCaps;
  readonly names: Names;
  readonly people: People;
  readonly lengths: Lengths;
  readonly caches: Caches;
  readonly sightings: Sightings;
  readonly writer: Writer;
  readonly work: Work;
  readonly things: Things;
  readonly prices: PriceBook;
  /** The collector's books, once it has made some: where windows land. */
  readonly billing: Late<BillingBooks>;
  readonly expectations: Expectations;
  readonly forwarder: Forwarder;
  /** The books, for reading. */
  readonly books: UsageBooks;
  readonly metrics: Metrics;
  readonly unmetered: Unmetered;
  /** How long a client waits for the books before it gets its last bytes all the same. */
  readonly patience: Patience;
  readonly log: Log;
  isDraining(): boolean;
  /** Whether a peer is a proxy whose X-Forwarded-For is believed. */
  isTrusted(address: string): boolean;
};
