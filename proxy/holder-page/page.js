// The page of a key's holder. The key is kept in a variable here, and goes nowhere but into the header of requests to
// /keymeter/me and /keymeter/ask. Names are put in as text, never as markup.
const at = (id) => document.getElementById(id);
let key = "";
/** Ids of sessions and names may be of any length. */
const LONGEST = 60;

at("show").addEventListener("submit", (event) => {
  event.preventDefault();
  key = at("key").value.trim();
  void show();
});

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  void ask();
});

/** Asks this Keymeter; throws an Error with the words of its refusal. */
async function request(path, body) {
  const answer = await fetch(path, {
    method: body === undefined ? "GET" : "POST",
    headers: {
      authorization: `Bearer ${key}`,
      ...(body === undefined ? {} : { "content-type": "application/json" }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    cache: "no-store",
    credentials: "omit",
  });
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.error?.message ?? `it answered ${answer.status}`);
  return told;
}

async function show(words = "") {
  try {
    fill(await request("/keymeter/me"));
    at("told").hidden = false;
    at("said").textContent = words;
  } catch (error) {
    at("told").hidden = true;
    at("said").textContent = error.message;
  }
}

async function ask() {
  const budget = at("budget").value;
  try {
    const told = await request("/keymeter/ask", {
      amount: at("amount").value.trim(),
      why: at("why").value.trim(),
      ...(budget === "" ? {} : { budget }),
    });
    at("ask").reset();
    await show(`Asked for $${told.amountUsd} more for ${told.scope}. Whoever runs Keymeter answers.`);
  } catch (error) {
    at("said").textContent = error.message;
  }
}

function fill({ key: own, spent, userSpent, userLandsAtUsd, landsAtUsd, budgets, seatCaps, asked, sessions }) {
  at("whose").textContent =
    `Key ${own.name}${own.team ? `, team ${own.team}` : ""}${own.user ? `, user ${own.user}` : ""}`;
  const figures = [
    ["Today", money(spent.todayUsd)],
    ["This month", money(spent.monthUsd)],
    ...(landsAtUsd ? [["This month lands at about", money(landsAtUsd.middle)]] : []),
    ...(spent.seatMonthUsd ? [["By subscriptions, worth", money(spent.seatMonthUsd)]] : []),
    ...(userSpent ? [["This month, all keys of the user", money(userSpent.monthUsd)]] : []),
    ...(userLandsAtUsd ? [["It lands at about", money(userLandsAtUsd.middle)]] : []),
  ];
  at("spent").replaceChildren(
    ...figures.map(([title, value]) => {
      const figure = document.createElement("div");
      figure.append(cell("dt", title), cell("dd", value));
      return figure;
    }),
  );
  table(
    "budgets",
    ["For", "Window", "Kind", "Left", "Of", "Ends"],
    budgets.map((one) => [
      one.scope,
      one.window,
      one.kind === "hard" ? "refuses" : "tells only",
      one.leftUsd === undefined ? `${100 - one.usedPercent} %` : money(one.leftUsd),
      one.amountUsd === undefined ? "" : money(one.amountUsd),
      one.windowEnd === null ? "never" : time(one.windowEnd),
    ]),
    "No budget holds for this key.",
  );
  at("seats-section").hidden = seatCaps.length === 0;
  table(
    "seats",
    ["For", "Window", "Left", "Of", "Ends"],
    seatCaps.map((one) => [
      one.scope,
      one.window,
      one.left === undefined ? `${Math.max(0, 100 - one.usedPercent)} %` : one.left.toLocaleString("en-US"),
      one.tokens === undefined ? "" : one.tokens.toLocaleString("en-US"),
      one.endsAt === null ? "has not begun" : time(one.endsAt),
    ]),
    "",
  );
  at("budget").replaceChildren(
    new Option("the one nearest its end", ""),
    ...budgets.map((one) => new Option(`${one.scope}, ${one.window}`, one.id)),
  );
  table(
    "asked",
    ["Asked on", "For", "Why", "Answer"],
    asked.map((one) => [
      time(one.at),
      `${money(one.amountUsd)}, ${one.scope}`,
      one.why,
      one.raisedUsd === undefined
        ? (one.answer ?? "not answered yet")
        : `${one.answer}: ${money(one.raisedUsd)} until ${time(one.raisedUntil)}`,
    ]),
    "Nothing was asked for this month.",
  );
  table(
    "sessions",
    ["Last request", "Client", "Session", "Requests", "Cost"],
    sessions.map((one) => [time(one.lastAt), one.client, one.session, String(one.requests), money(one.costUsd)]),
    "No session of a coding agent in the last week.",
  );
}

function table(id, titles, rows, empty) {
  if (rows.length === 0) return at(id).replaceChildren(cell("caption", empty));
  const head = document.createElement("thead");
  head.append(row("th", titles));
  const body = document.createElement("tbody");
  body.append(...rows.map((cells) => row("td", cells)));
  at(id).replaceChildren(head, body);
}

function row(name, texts) {
  const line = document.createElement("tr");
  line.append(
    ...texts.map((text) => {
      const one = cell(name, text);
      if (name === "th") one.scope = "col";
      return one;
    }),
  );
  return line;
}

function cell(name, text) {
  const one = document.createElement(name);
  one.textContent = text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
  one.dir = "auto";
  return one;
}

/** "0.015000000" -> "$0.015"; cents at least. */
function money(usd) {
  const [whole, rest = ""] = usd.split(".");
  return `$${Number(whole).toLocaleString("en-US")}.${rest.replace(/0+$/, "").padEnd(2, "0")}`;
}

function time(text) {
  return `${text.slice(0, 16).replace("T", " ")} UTC`;
}
