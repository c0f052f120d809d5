// Amazon Bedrock by its two doors that take a bearer: OpenAI's format (`/openai/v1/...`, at bedrock-mantle also `/v1/...`)
// and Anthropic's (`/anthropic/v1/messages`). A Bedrock API key is swapped in; what is signed for AWS cannot be passed on.
// The native paths (`/model/{id}/converse`, `/invoke`) are not read: a Keymeter key does not reach them. Source:
// docs.aws.amazon.com, Bedrock endpoints and API keys.
import { DIALECTS } from "../dialects/index.ts";
import { basePath, common } from "./provider.ts";
import type { Place, Provider, ProviderSettings } from "./provider.ts";

/** Inference profiles of a part of the world: priced like the plain name, which is dearer than `global.` on newer models. */
const REGIONAL_PROFILE = /^(?:us|us-gov|eu|apac|jp|au|in|ca)\./;
const SCOPE = /^(?:global|us|us-gov|eu|apac|jp|au|in|ca)\./;

/** Takes `/anthropic/v1/...`, `/openai/v1/...` and `/v1/...`. */
export function bedrock(name: string, priceList: string, settings: ProviderSettings): Provider {
  const base = basePath(settings.url);
  const { modelOf, ...rest } = common(settings);
  return {
    name,
    prefixes: [name],
    priceList,
    dialect: DIALECTS.openai,
    ...rest,
    credentialHeader: "authorization",
    // An ARN names its profile behind the last slash.
    modelOf: (model) =>
      modelOf(model)
        .replace(/^arn:.*\//, "")
        .replace(REGIONAL_PROFILE, ""),
    // Answers name the model alone; what it was asked by says which price holds.
    pricedAs: (requested, served) =>
      SCOPE.test(requested) && !SCOPE.test(served) && requested.includes(served) ? requested : served,
    locate(segments): Place | undefined {
      const upstreamPath = `${base}/${segments.join("/")}`;
      const [first, second, ...more] = segments;
      if (first === "anthropic" && second === "v1")
        return { dialect: DIALECTS.anthropic, upstreamPath, rest: `/${more.join("/")}` };
      if (first === "openai" && second === "v1")
        return { dialect: DIALECTS.openai, upstreamPath, rest: `/${more.join("/")}` };
      const behind = first === "v1" ? segments.slice(1) : segments;
      return {
        dialect: DIALECTS.openai,
        upstreamPath,
        rest: `/${first === "v1" ? "" : "bedrock/"}${behind.join("/")}`,
      };
    },
  };
}
