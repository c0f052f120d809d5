// OpenTelemetry's own types and encoders, and AWS's client: optional packages, loaded when telemetry is wanted.
import { loadPackage } from "../../service/package.ts";

export type Otel = Awaited<ReturnType<typeof loadOtel>>;

export async function loadOtel() {
  const [api, encoders, metrics, resources] = await Promise.all([
    loadPackage("@opentelemetry/api", () => import("@opentelemetry/api")),
    loadPackage("@opentelemetry/otlp-transformer", () => import("@opentelemetry/otlp-transformer")),
    loadPackage("@opentelemetry/sdk-metrics", () => import("@opentelemetry/sdk-metrics")),
    loadPackage("@opentelemetry/resources", () => import("@opentelemetry/resources")),
  ]);
  return { ...api, ...encoders, ...metrics, ...resources };
}

export const loadCloudWatch = () =>
  loadPackage("@aws-sdk/client-cloudwatch", () => import("@aws-sdk/client-cloudwatch"));

export const loadSigner = () => loadPackage("@smithy/signature-v4", () => import("@smithy/signature-v4"));
