// The verbs of the command, each loaded when it is called.

type Verb = {
  readonly run: (args: string[]) => Promise<void> | void;
  readonly USAGE?: string;
  /** What --help says beyond that. */
  readonly help?: () => Promise<string>;
};

export const VERBS: { readonly [verb: string]: () => Promise<Verb> } = {
  up: () => import("./up.ts"),
  proxy: () => import("./proxy.ts"),
  collector: () => import("./collector.ts"),
  alerts: () => import("./alerts.ts"),
  login: () => import("./login.ts"),
  logout: () => import("./logout.ts"),
  tokens: () => import("./tokens.ts"),
  keys: () => import("./keys.ts"),
  users: () => import("./users.ts"),
  connect: () => import("./connect.ts"),
  disconnect: () => import("./disconnect.ts"),
  run: () => import("./run.ts"),
  status: () => import("./status.ts"),
  ask: () => import("./ask.ts"),
  asks: () => import("./asks.ts"),
  report: () => import("./report.ts"),
  budgets: () => import("./budgets.ts"),
  apply: () => import("./apply.ts"),
  limits: () => import("./limits.ts"),
  seats: () => import("./seats.ts"),
  spend: () => import("./spend.ts"),
  events: () => import("./events.ts"),
  clock: () => import("./clock.ts"),
  work: () => import("./work.ts"),
  reconcile: () => import("./reconcile.ts"),
  close: () => import("./close.ts"),
  import: () => import("./import.ts"),
  export: () => import("./export.ts"),
  leaks: () => import("./leaks.ts"),
  rotate: () => import("./rotate.ts"),
  keyless: () => import("./keyless.ts"),
  leak: () => import("./leak.ts"),
  forecast: () => import("./forecast.ts"),
  pages: () => import("./pages.ts"),
  prices: () => import("./prices.ts"),
  doctor: () => import("./doctor.ts"),
  backup: () => import("./backup.ts"),
  ledger: () => import("./ledger.ts"),
  verify: () => import("./verify.ts"),
  completion: () => import("./completion.ts"),
  demo: () => import("./demo/demo.ts"),
};
