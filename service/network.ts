// Who can reach what: only the proxy's port is for others. Metrics, health, admin API, pages and the webhook listen on
// this machine alone unless somebody says otherwise, and from elsewhere metrics ask for a token.
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { hasApplied } from "../ledger/open.ts";
import type { SharedConfig } from "./config.ts";

type Network = Pick<SharedConfig, "host" | "innerHost" | "dataDir">;

/** A migration that came with the closed network: a folder whose books have none of it was in use before. */
const SINCE = "0011-usage.sql";
/** A folder of a release in which everything listened on `host`, and metrics asked for nothing, goes on so for one
 *  release more. */
const MARK = "open-network";
const WORDS = `This folder was in use when all ports of Keymeter listened on KEYMETER_HOST and metrics asked for no token. For one release more they do.
Set KEYMETER_INNER_HOST, give scrape jobs the file metrics-token (see alerts/prometheus.yaml), and delete this file.
`;

/** Where everything but the proxy's own port listens. */
export function innerHostOf({ host, innerHost, dataDir }: Network): string {
  if (innerHost !== undefined) return innerHost;
  return isLoopback(host) || isOpen({ innerHost, dataDir }) ? host : "127.0.0.1";
}

/** Whether everything still listens where the proxy does, and metrics are given to others without the token. Who has
 *  set an inner host has chosen. */
export function isOpen({ innerHost, dataDir }: Omit<Network, "host">): boolean {
  return innerHost === undefined && existsSync(join(dataDir, MARK));
}

/** Before anything listens: marks a folder of before, and says what changes. Undefined: nothing does. */
export function noteOpenNetwork({ host, innerHost, dataDir }: Network): string | undefined {
  const isOld = !existsSync(join(dataDir, "metrics-token")) && hasApplied(join(dataDir, "usage.db"), SINCE) === false;
  if (isOld && innerHost === undefined && !isLoopback(host)) writeFileSync(join(dataDir, MARK), WORDS, { mode: 0o600 });
  return openNetworkWords({ host, innerHost, dataDir });
}

/** What is open in a folder of before, as a sentence; undefined: nothing. */
export function openNetworkWords({ host, innerHost, dataDir }: Network): string | undefined {
  if (isLoopback(host) || !isOpen({ innerHost, dataDir })) return undefined;
  return `metrics, pages and webhook listen on ${host} too, and metrics ask for no token: for this release, because they did before. Set KEYMETER_INNER_HOST (127.0.0.1 for this machine alone), give scrape jobs the file metrics-token, and delete ${join(dataDir, MARK)}`;
}

/** Whether an address is this machine itself. */
export function isLoopback(host: string): boolean {
  const plain = host.replace(/^::ffff:/, "");
  return plain === "localhost" || plain === "::1" || plain.startsWith("127.");
}
