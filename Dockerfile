# Keymeter: one image, all programs. It holds Node, what Node needs, and Keymeter: no shell, no package manager. It runs as a user
# without rights, with a root that is read only, and writes to /data and /tmp. Health: whichever program runs here is ready.
# A base by its digest: --build-arg NODE_IMAGE=node:24-slim@sha256:...
ARG NODE_IMAGE=node:24-slim

FROM ${NODE_IMAGE} AS install
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# The Node of the image is the one that runs; of SQLite for other systems nothing is kept.
RUN npm ci --omit=dev --ignore-scripts \
  && rm -rf node_modules/node-linux-* node_modules/node-win-* node_modules/node-darwin-* \
  && node -e 'const fs = require("fs"), at = "node_modules/better-sqlite3/prebuilds"; for (const file of fs.readdirSync(at)) if (file !== `linux-${process.arch}.node`) fs.rmSync(`${at}/${file}`)' \
  && rm -rf node_modules/better-sqlite3/deps node_modules/better-sqlite3/src \
  && find node_modules -type f \( -name '*.map' -o -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' \) -delete
COPY keymeter.ts keymeter.example.yaml ./
COPY ledger ledger
COPY service service
COPY proxy proxy
COPY charts charts
COPY collector collector
COPY alerts alerts
COPY command command
# Node, the libraries that it and its addons name, certificates, and a user with a name.
RUN mkdir -p /image/usr/local/bin /image/etc/ssl/certs /image/data /image/tmp \
  && cp /usr/local/bin/node /image/usr/local/bin/ \
  && { ldd /usr/local/bin/node; find node_modules -name '*.node' -exec ldd {} ';'; } | grep -o '/[^ ]*' | while read -r library; do mkdir -p "/image$(dirname "$library")" && cp -L "$library" "/image$library"; done \
  && { cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ 2>/dev/null || true; } \
  && echo 'keymeter:x:10001:10001:Keymeter:/data:/nowhere' > /image/etc/passwd \
  && echo 'keymeter:x:10001:' > /image/etc/group \
  && chown 10001:10001 /image/data && chmod 1777 /image/tmp \
  && cp -r /app /image/app

FROM scratch
LABEL org.opencontainers.image.title="Keymeter" \
  org.opencontainers.image.description="Metering, hard caps, reconciliation, forecast and alerts for AI API keys." \
  org.opencontainers.image.licenses="Apache-2.0"
COPY --from=install /image /
WORKDIR /app
ENV PATH=/usr/local/bin NODE_ENV=production KEYMETER_DATA_DIR=/data MALLOC_ARENA_MAX=2
USER 10001:10001
VOLUME /data
EXPOSE 4000 4001 4002 4003
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["node", "-e", "const { env } = process; const ports = [env.KEYMETER_OPS_PORT ?? 4001, env.KEYMETER_COLLECTOR_PORT ?? 4002, env.KEYMETER_ALERTS_PORT ?? 4003]; Promise.any(ports.map((port) => fetch(`http://127.0.0.1:${port}/readyz`).then(({ ok }) => { if (!ok) throw new Error('not ready'); }))).then(() => process.exit(0), () => process.exit(1))"]
ENTRYPOINT ["node", "--max-semi-space-size=8", "keymeter.ts"]
CMD ["proxy"]
