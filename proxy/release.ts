// The client's last bytes, when an attempt is in the books: the rest of its answer, or an error in its dialect.
import type { FastifyReply } from "fastify";
import { formatUsdExact } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { ProxyContext } from "./context.ts";
import type { Refusal } from "./dialects/refusal.ts";
import type { Ending } from "./ending.ts";
import type { Exchange } from "./exchange.ts";
import { addressed } from "./refuse.ts";
import type { Target } from "./target.ts";

/** The client's last bytes; or, where no answer came, an error in its dialect that is worth a retry. */
export function release(
  context: Pick<ProxyContext, "config" | "log">,
  exchange: Exchange,
  ending: Ending,
  { provider, dialect }: Pick<Target, "provider" | "dialect">,
  costNanoUsd: NanoUsd | undefined,
  requestId: string,
  reply: FastifyReply,
): void {
  const why = `Keymeter: ${describe(ending).replace(/\.$/, "")}`;
  const userAgent = reply.request.headers["user-agent"] ?? "";
  if (ending.status === undefined || (ending.how !== "ended" && !exchange.answered)) {
    const [kind, code] = statusOf(ending, context.config.refusalStatus);
    const { status, body, headers } = dialect.refusal(
      addressed(context, { kind, status: code, message: why }),
      requestId,
      userAgent,
    );
    exchange.refuse(status, ["content-type", "application/json", "x-keymeter-request-id", requestId, ...headers], body);
    if (ending.how === "failed" || ending.how === "unreachable")
      context.log.warn({ requestId, provider: provider.name, error: ending.error }, "no answer from the provider");
    return;
  }
  if (ending.how === "stopped" || ending.how === "cut" || ending.how === "capped") {
    const kind = ending.how === "capped" ? "money" : "unavailable";
    const said = addressed(context, { kind, status: 0, message: `${why}; this answer is not complete` });
    return exchange.releaseWithError(dialect.errorEvent(kind, said.message, requestId));
  }
  exchange.release(costNanoUsd === undefined ? [] : ["x-keymeter-cost-usd", formatUsdExact(costNanoUsd)]);
}

/** Why an answer does not come, or not whole. */
function describe({ how, error }: Ending): string {
  switch (how) {
    case "stopped":
    case "capped":
      return error ?? how;
    case "cut":
      return "whoever runs Keymeter stopped this key or scope";
    default:
      return `the provider could not be reached or broke off (${error ?? "no answer"})`;
  }
}

function statusOf({ how, timedOut }: Ending, refusalStatus: number): readonly [Refusal["kind"], number] {
  if (how === "capped") return ["money", refusalStatus];
  if (how === "stopped") return ["unavailable", 503];
  return timedOut ? ["timeout", 504] : ["upstream", 502];
}
