// OpenAI's costs, by key, project and line item, through the official SDK with an admin key.
// Source: GET /v1/organization/costs; UTC days, amounts in USD as numbers, revised for some days.
import OpenAI, { APIError } from "openai";
import type { BilledLine } from "../../ledger/bills.ts";
import { parseUsd } from "../../ledger/money.ts";
import type { Secret } from "../../service/secret.ts";
import { ImportError } from "./importer.ts";
import type { Importer } from "./importer.ts";

const DAY_SECONDS = 86_400;
const MOST_PAGES = 500;
const TIMEOUT_MS = 60_000;

export function openaiImporter({
  adminKey,
  baseUrl,
}: {
  readonly adminKey: Secret;
  readonly baseUrl: string;
}): Importer {
  const client = new OpenAI({
    apiKey: adminKey.reveal(),
    adminAPIKey: adminKey.reveal(),
    baseURL: baseUrl,
    timeout: TIMEOUT_MS,
    maxRetries: 3,
  });
  return {
    provider: "openai",
    async fetchDay(day) {
      const start = Date.parse(`${day}T00:00:00Z`) / 1000;
      const lines: BilledLine[] = [];
      let page: string | undefined;
      for (let count = 0; count < MOST_PAGES; count++) {
        const answer = await client.admin.organization.usage
          .costs({
            start_time: start,
            end_time: start + DAY_SECONDS,
            bucket_width: "1d",
            limit: 1,
            group_by: ["project_id", "line_item", "api_key_id"],
            ...(page === undefined ? {} : { page }),
          })
          .catch((error: unknown) => {
            throw explain(error);
          });
        for (const bucket of answer.data) {
          if (bucket.start_time !== start) continue;
          for (const result of bucket.results)
            if (result.object === "organization.costs.result") lines.push(toLine(result, day));
        }
        if (!answer.has_more) return lines;
        page = answer.next_page ?? undefined;
        if (page === undefined)
          throw new ImportError(
            `OpenAI costs of ${day}: the answer says that more pages follow, but names none. Nothing was imported; try again later.`,
          );
      }
      throw new ImportError(
        `OpenAI costs of ${day}: more than ${MOST_PAGES} pages. Nothing was imported; the source may be looping.`,
      );
    },
  };
}

function toLine(
  result: OpenAI.Admin.Organization.Usage.UsageCostsResponse.Data.OrganizationCostsResult,
  day: string,
): BilledLine {
  const currency = result.amount?.currency ?? "usd";
  if (currency.toLowerCase() !== "usd")
    throw new ImportError(`OpenAI costs of ${day} are in ${currency}; Keymeter books USD only. Nothing was imported.`);
  const value: unknown = result.amount?.value ?? 0;
  const number = typeof value === "string" ? Number(value) : value;
  if (typeof number !== "number" || !Number.isFinite(number))
    throw new ImportError(
      `OpenAI costs of ${day}: the amount ${JSON.stringify(value)} is no number. Nothing was imported.`,
    );
  return {
    billedKey: result.api_key_id ?? undefined,
    project: result.project_id ?? undefined,
    lineItem: result.line_item ?? undefined,
    // The wire holds a float of dollars: nine decimals are more than it carries.
    amountNanoUsd: parseUsd(number.toFixed(9)),
    quantity: result.quantity === null || result.quantity === undefined ? undefined : String(result.quantity),
    unit: undefined,
    raw: JSON.stringify(result),
  };
}

function explain(error: unknown): Error {
  if (!(error instanceof APIError)) return error instanceof Error ? error : new Error(String(error));
  const advice: { readonly [status: number]: string } = {
    401: "the admin key is wrong or was deleted; make a new one under Organization > Admin keys and set OPENAI_ADMIN_KEY",
    403: "the key has no right to read costs; it must be an admin key with the scope api.usage.read",
    429: "too many requests; the next run tries again",
  };
  return new ImportError(
    `OpenAI costs: ${error.status ?? "no answer"} (${error.message.slice(0, 200)}); ${advice[error.status ?? 0] ?? "the next run tries again"}`,
  );
}
