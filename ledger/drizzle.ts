// drizzle, loaded as CommonJS. Its manifest has 180 kB, and Node reads the manifest again for each .js file it loads as
// a module: the same import then costs four times the memory and time of the .cjs files, in every process and thread.
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const core = require("drizzle-orm") as typeof import("drizzle-orm");
const driver = require("drizzle-orm/better-sqlite3") as typeof import("drizzle-orm/better-sqlite3");
const remote = require("drizzle-orm/sqlite-proxy") as typeof import("drizzle-orm/sqlite-proxy");
const tables = require("drizzle-orm/sqlite-core") as typeof import("drizzle-orm/sqlite-core");

export const {
  and,
  asc,
  getTableColumns,
  getTableName,
  desc,
  eq,
  gt,
  gte,
  inArray,
  isNotNull,
  isNull,
  lt,
  lte,
  ne,
  notInArray,
  or,
  sql,
} = core;
export const { drizzle } = driver;
/** drizzle over a function that runs a text: what both engines share. */
export const drizzleOver = remote.drizzle;
export const { customType, real, SQLiteAsyncDialect, sqliteTable, sqliteView, text } = tables;
export type { SQL } from "drizzle-orm";
export type { AnySQLiteColumn, SQLiteColumnBuilderBase, SQLiteTable } from "drizzle-orm/sqlite-core";
