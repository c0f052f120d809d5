// A day of ten developers on five repositories, through a real proxy: what branches, tickets, people and sessions cost adds up
// to what the provider's own counts come to, on pages, in the command and in a comment for a pull request. Two of them work by
// subscription: their value stands apart, and in no sum of money.
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readPeople } from "../../ledger/usage/people.ts";
import { openUsage } from "../../ledger/open.ts";
import { readSpendByTag } from "../../ledger/usage/spend.ts";
import { addDays, createCalendar } from "../../ledger/windows.ts";
import { findBarriers, HAS_BROWSER, openBrowser } from "../browser.ts";
import { startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { IS_CI, random, SEED } from "../seed.ts";
import { startProxy } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";
import { get, nano, openSite, rowsOf } from "./sites.ts";
import type { Site } from "./sites.ts";

const SCREENSHOTS = process.env["KEYMETER_SCREENSHOTS"];
const REQUESTS = IS_CI ? 2_000 : 200;
const SEATS: ReadonlySet<string> = new Set(["dev-8", "dev-9"]);
/** claude-haiku-4-5: 1 USD per million in, 0.10 from the cache, 5 out; in nano-USD per token. */
const PRICE = { input: 1_000n, cached: 100n, output: 5_000n };

/** What was asked, by what the test itself counted. */
type Done = {
  readonly user: string;
  readonly repo: string;
  readonly branch: string;
  readonly ticket: string;
  readonly session: string;
  readonly nanoUsd: bigint;
};

let provider: FakeProvider;
let running: RunningProxy;
let site: Site;
const done: Done[] = [];

beforeAll(async () => {
  console.log(`seed ${SEED}`);
  const next = random(SEED);
  const whole = (below: number): number => Math.floor(next() * below);
  provider = await startFakeProvider((arrived, response) => {
    const [input, cached, output] = JSON.parse(
      (JSON.parse(arrived.body.toString()) as { messages: { content: string }[] }).messages[0]?.content ?? "[]",
    ) as [number, number, number];
    const isSeat = String(arrived.headers["authorization"]).startsWith("Bearer sk-ant-oat");
    response
      .writeHead(200, {
        "content-type": "application/json",
        ...(isSeat ? { "anthropic-ratelimit-unified-status": "allowed" } : {}),
      })
      .end(
        JSON.stringify({
          id: "msg_1",
          type: "message",
          role: "assistant",
          model: "claude-haiku-4-5-20251001",
          content: [],
          stop_reason: "end_turn",
          usage: {
            input_tokens: input,
            cache_read_input_tokens: cached,
            cache_creation_input_tokens: 0,
            output_tokens: output,
          },
        }),
      );
  });
  running = await startProxy(provider.url);
  const secrets = new Map<string, string>();
  for (let i = 0; i < 10; i++)
    secrets.set(`dev-${i}`, (await running.createKey({ userName: `dev-${i}`, name: `dev-${i}` })).secret);
  for (let n = 0; n < REQUESTS; n++) {
    const user = `dev-${whole(10)}`;
    const repo = `acme/repo-${whole(5)}`;
    const branch = next() < 0.1 ? "" : `feature-${whole(4)}`;
    const ticket = branch === "" ? "" : `T-${branch.slice(-1)}`;
    const session = `${user}-session-${whole(3)}`;
    const [input, cached, output] = [whole(5_000), whole(50_000), 1 + whole(3_000)];
    const secret = secrets.get(user) ?? "";
    const headers: { [name: string]: string } = {
      "content-type": "application/json",
      "anthropic-version": "2023-06-01",
      "user-agent": "claude-cli/2.1.332 (external, cli)",
      "x-claude-code-session-id": session,
      "x-keymeter-repo": repo,
      ...(branch === "" ? {} : { "x-keymeter-branch": branch, "x-keymeter-ticket": ticket }),
      ...(SEATS.has(user)
        ? { authorization: `Bearer sk-ant-oat01-${user}-login-of-a-test`, "x-keymeter-key": secret }
        : { "x-api-key": secret }),
    };
    const answer = await fetch(`${running.url}/anthropic/v1/messages`, {
      method: "POST",
      headers,
      body: JSON.stringify({
        model: "claude-haiku-4-5",
        max_tokens: 4_000,
        messages: [{ role: "user", content: JSON.stringify([input, cached, output]) }],
      }),
    });
    if (answer.status !== 200) throw new Error(`answered ${answer.status}: ${await answer.text()}`);
    await answer.text();
    const nanoUsd = BigInt(input) * PRICE.input + BigInt(cached) * PRICE.cached + BigInt(output) * PRICE.output;
    done.push({ user, repo, branch, ticket, session, nanoUsd });
  }
  site = await openSite(running.dataDir, Date.now());
}, 600_000);
afterAll(async () => {
  await site?.close();
  await running?.stop();
  await provider?.close();
});

const isSeat = ({ user }: Done): boolean => SEATS.has(user);
const sum = (all: readonly Done[]): bigint => all.reduce((total, { nanoUsd }) => total + nanoUsd, 0n);
const paid = (all: readonly Done[]): bigint => sum(all.filter((one) => !isSeat(one)));
const seat = (all: readonly Done[]): bigint => sum(all.filter(isSeat));
const branchOf = ({ repo, branch }: Done): string => `${repo} ${branch}`;

describe.skipIf(process.env["TEST_BOOKS"] === "postgres")("a day of ten developers", () => {
  it("by repository and branch adds up to the total, to the nano-dollar, seats apart", async () => {
    const books = await openUsage(running.place);
    if (!books) throw new Error("no books");
    const calendar = createCalendar("UTC");
    const today = calendar.day(Date.now());
    const rows = await readSpendByTag(
      books,
      ["tag:repo", "tag:branch"],
      calendar,
      addDays(today, -1),
      addDays(today, 1),
    );
    const groups = Map.groupBy(done, branchOf);
    expect(rows.length).toBe(groups.size);
    for (const { group, costNanoUsd, seatNanoUsd } of rows) {
      const own = groups.get(`${group["tag:repo"]} ${group["tag:branch"]}`) ?? [];
      expect([costNanoUsd, seatNanoUsd], JSON.stringify(group)).toEqual([paid(own), seat(own)]);
    }
    expect(rows.reduce((total, { costNanoUsd }) => total + costNanoUsd, 0n)).toBe(paid(done));
    expect(rows.reduce((total, { seatNanoUsd }) => total + seatNanoUsd, 0n)).toBe(seat(done));
    await books.close();
  });

  it("is in the comment for a pull request", async () => {
    const [branch, own] = [
      ...Map.groupBy(
        done.filter((one) => one.branch !== ""),
        branchOf,
      ),
    ][0] ?? ["", []];
    const [repo = "", name = ""] = branch.split(" ");
    const { code, text } = await runKeymeter(running, "report", "pr", "--repo", repo, "--branch", name, "--json");
    expect(code, text).toBe(0);
    const { total } = JSON.parse(text) as { total: { costNanoUsd: string; seatNanoUsd: string; requests: number } };
    expect([BigInt(total.costNanoUsd), BigInt(total.seatNanoUsd), total.requests]).toEqual([
      paid(own),
      seat(own),
      own.length,
    ]);
  });

  it("is on the pages of users, one user, his sessions, repositories and their branches", async () => {
    const books = await openUsage(running.place);
    const ids = new Map([...(books ? await readPeople(books) : [])].map(([id, name]) => [name, id]));
    await books?.close();
    const users = rowsOf(await get(site, "users.csv?table=users"));
    expect(users.length).toBe(10);
    for (const row of users) {
      const own = done.filter(({ user }) => user === row["user"]);
      expect(nano(row["month_usd"]), row["user"]).toBe(paid(own));
      expect(nano(row["seats_usd"]), row["user"]).toBe(seat(own));
      expect(row["id"]).toBe(ids.get(row["user"] ?? ""));
    }
    for (const user of ["dev-0", "dev-9"]) {
      const sessions = rowsOf(await get(site, `user.csv?table=sessions&id=${ids.get(user)}`));
      const groups = Map.groupBy(
        done.filter((one) => one.user === user),
        (one) => one.session,
      );
      expect(sessions.length).toBe(groups.size);
      for (const row of sessions) {
        const own = groups.get(row["session"] ?? "") ?? [];
        expect(nano(row["cost_usd"])).toBe(paid(own));
        expect(row["client"]).toBe("claude-code");
        const parts = rowsOf(await get(site, `session.csv?table=agents&id=${row["session"]}`));
        expect(parts.length).toBe(1);
        expect([nano(parts[0]?.["cost_usd"]), Number(parts[0]?.["requests"])]).toEqual([paid(own), own.length]);
      }
    }
    const repositories = rowsOf(await get(site, "repositories.csv?table=repositories"));
    expect(repositories.length).toBe(6);
    expect(nano(repositories.at(-1)?.["cost_usd"])).toBe(paid(done));
    const branches = rowsOf(await get(site, "repository.csv?table=branches&id=acme%2Frepo-1"));
    expect(nano(branches.at(-1)?.["cost_usd"])).toBe(paid(done.filter(({ repo }) => repo === "acme/repo-1")));
    expect(await get(site, `user?id=${ids.get("dev-9")}`)).toContain("By subscriptions, worth");
    for (const path of ["user?id=nobody", "session?id=nothing", "repository?id=none"]) {
      const answer = await fetch(`${site.url}/${path}`, { headers: { authorization: "Bearer read-token-of-a-test" } });
      expect([path, answer.status]).toEqual([path, 404]);
      await answer.text();
    }
  });

  it("is charged by user, without what subscriptions paid", async () => {
    const month = new Date().toISOString().slice(0, 7);
    const rows = rowsOf(await get(site, `chargeback.csv?table=charges&month=${month}&by=user`));
    const charged = new Map(rows.map((row) => [row["user"], nano(row["total_usd"])]));
    for (const user of ["dev-0", "dev-1", "dev-7"])
      expect(charged.get(user), user).toBe(paid(done.filter((one) => one.user === user)));
    for (const user of SEATS) expect(charged.get(user) ?? 0n, user).toBe(0n);
  });

  it("is in no cap of money as far as subscriptions paid, and memory is the books", async () => {
    expect((await running.proxy.writer.verify()).differences).toEqual([]);
    await running.setBudget({ id: "all", amountNanoUsd: 10n ** 12n });
    const [state] = await running.proxy.writer.states();
    expect(state?.settledNanoUsd).toBe(paid(done));
  });
});

describe.skipIf(!HAS_BROWSER)("in a browser", () => {
  it("is read by everybody, on a desk and on a phone", async () => {
    const browser = await openBrowser();
    const books = await openUsage(running.place);
    const ids = new Map([...(books ? await readPeople(books) : [])].map(([id, name]) => [name, id]));
    await books?.close();
    const sizes = [
      { width: 1440, height: 900 },
      { width: 390, height: 844 },
    ];
    const looks = (["light", "dark"] as const).flatMap((colorScheme) =>
      sizes.map((viewport) => ({ colorScheme, viewport })),
    );
    for (const look of looks) {
      const page = await (await browser.newContext(look)).newPage();
      await page.goto(`${site.url}${site.makeLink()}`);
      // The way in goes on to the first page by itself.
      await page.waitForURL("**/overview");
      await page.goto(`${site.url}/users`);
      await page.getByRole("link", { name: "dev-9" }).click();
      await page
        .getByRole("link", { name: /^dev-9-session-/ })
        .first()
        .click();
      // A click does not wait for the page that it leads to.
      await expect
        .poll(() => page.getByRole("heading", { level: 1 }).textContent(), { timeout: 20_000 })
        .toContain("dev-9-session-");
      for (const path of [
        "users",
        `user?id=${ids.get("dev-9")}`,
        "session?id=dev-0-session-1",
        "repositories",
        "repository?id=acme%2Frepo-1",
      ]) {
        expect((await page.goto(`${site.url}/${path}`))?.status(), path).toBe(200);
        expect(await findBarriers(page), path).toEqual([]);
        const tooWide = await page.evaluate("document.documentElement.scrollWidth > window.innerWidth + 1");
        expect(tooWide, `${path} at ${look.viewport.width}`).toBe(false);
        if (SCREENSHOTS)
          await page.screenshot({
            path: join(SCREENSHOTS, `${path.split("?")[0]}-${look.colorScheme}-${look.viewport.width}.png`),
            fullPage: true,
          });
      }
      await page.context().close();
    }
    await browser.close();
  });
});
