// A stand-in of GitHub's API for secrets of Actions, after its documentation, which opens what it gets as GitHub does.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

export const GITHUB_TOKEN = "ghp_of-a-test-0123456789";

export type FakeGitHub = {
  readonly url: string;
  /** What was written, opened, by path. */
  readonly secrets: Map<string, string>;
  readonly bodies: object[];
  isDown: boolean;
  close(): Promise<void>;
};

export async function startFakeGitHub(): Promise<FakeGitHub> {
  const { default: sodium } = await import("libsodium-wrappers");
  await sodium.ready;
  const pair = sodium.crypto_box_keypair();
  const secrets = new Map<string, string>();
  const bodies: object[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const path = decodeURIComponent((request.url ?? "").split("?")[0] ?? "");
      const send = (status: number, body?: object): void =>
        void response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body ?? {}));
      if (fake.isDown) return send(503, { message: "down" });
      if (request.headers.authorization !== `Bearer ${GITHUB_TOKEN}`) return send(401, { message: "Bad credentials" });
      if (path.includes("/unknown/")) return send(404, { message: "Not Found" });
      if (path.endsWith("/public-key"))
        return send(200, { key_id: "key-1", key: Buffer.from(pair.publicKey).toString("base64") });
      if (request.method === "GET" && path.endsWith("/repositories"))
        return send(200, { repositories: [{ id: 7 }, { id: 9 }] });
      if (request.method === "GET") return send(200, { name: "CI_KEY", visibility: "selected" });
      if (path.includes("/frozen/")) return send(422, { message: "no" });
      const body = JSON.parse(Buffer.concat(chunks).toString()) as { encrypted_value: string; key_id: string };
      const opened = sodium.crypto_box_seal_open(
        Buffer.from(body.encrypted_value, "base64"),
        pair.publicKey,
        pair.privateKey,
      );
      bodies.push(body);
      secrets.set(path, Buffer.from(opened).toString("utf8"));
      return send(secrets.size > 1 ? 201 : 204);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const fake: FakeGitHub = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    secrets,
    bodies,
    isDown: false,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
  return fake;
}
