# Keymeter: one image, four commands. Runs as a user without a name, writes to /data only.
FROM node:24-slim AS install
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# The Node of the image is the one that runs; what draws pictures is optional to npm, and needed here.
RUN npm ci --omit=dev --ignore-scripts && rm -rf node_modules/node-linux-* node_modules/node-win-*

FROM node:24-slim
WORKDIR /app
ENV NODE_ENV=production KEYMETER_DATA_DIR=/data MALLOC_ARENA_MAX=2
RUN mkdir /data && chown 10001:10001 /data
COPY --from=install /app/node_modules node_modules
COPY package.json keymeter.ts ./
COPY ledger ledger
COPY service service
COPY proxy proxy
COPY charts charts
COPY collector collector
COPY alerts alerts
COPY command command
USER 10001:10001
VOLUME /data
STOPSIGNAL SIGTERM
ENTRYPOINT ["node", "--max-semi-space-size=8", "keymeter.ts"]
CMD ["proxy"]
