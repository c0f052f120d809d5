// The command as the pages have it: given by whoever starts this program, for the pages know no command.
import type { FastifyInstance } from "fastify";
import type { Holder } from "../ledger/usage/tokens.ts";
import type { Access } from "../service/admin-routes.ts";

/** What a command said, and its exit code: 0 done, 1 failed, 2 not understood. */
type Said = { readonly code: number; readonly out: string; readonly err: string };

/** Somebody who asks, and a pass for as long as it takes. */
export type Asker = { readonly holder: Holder; readonly pass: string };

export type OfferedCommand = {
  /** The routes by which others ask it. `passFor`: a pass of the holder. */
  addRoutes(app: FastifyInstance, access: Access, passFor: (holder: Holder) => string): void;
  /** Why somebody may not ask these words; undefined: may. */
  whyNot(holder: Holder, words: readonly string[]): string | undefined;
  /** Runs words for somebody. */
  run(asker: Asker, words: readonly string[]): Promise<Said>;
  /** Ends what runs. */
  close(): Promise<void>;
};
