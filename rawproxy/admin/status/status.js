"use strict";
// Polls /status.json and draws. Nothing comes from elsewhere, nothing is kept, nothing is sent.
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const WIDE = 1000, HIGH = 100;
const NEVER = "–";

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

// Numbers as people read them.
function count(value) {
  if (value >= 1e9) return (value / 1e9).toFixed(1) + " G";
  if (value >= 1e6) return (value / 1e6).toFixed(1) + " M";
  if (value >= 1e4) return (value / 1e3).toFixed(1) + " k";
  if (value >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString("en");
  return value.toFixed(1);
}
function seconds(value) {
  if (!value) return NEVER;
  if (value < 0.01) return (value * 1000).toFixed(1) + " ms";
  if (value < 1) return Math.round(value * 1000) + " ms";
  return value.toFixed(value < 10 ? 1 : 0) + " s";
}
function bytes(value) {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (value < 1024 || unit === "GiB") return (value < 10 && unit !== "B" ? value.toFixed(1) : Math.round(value)) + " " + unit;
    value /= 1024;
  }
}
const percent = (value) => (value * 100).toFixed(value && value < 0.1 ? 1 : 0) + " %";
const share = (part, whole) => (whole ? percent(part / whole) : NEVER);
function span(value) {
  const [d, h, m] = [Math.floor(value / 86400), Math.floor(value / 3600) % 24, Math.floor(value / 60) % 60];
  return d ? `${d} d ${h} h` : h ? `${h} h ${m} min` : m ? `${m} min` : `${Math.floor(value)} s`;
}

// Title, how values are written, the least top of the axis, and the lines: name and label.
const CHARTS = [
  ["Requests a second", count, 1, [["requests", "all"], ["errors4", "4xx"], ["errors5", "5xx"]], true],
  ["Latency", seconds, 0.001, [["p50", "median"], ["p95", "95 %"], ["p99", "99 %"]]],
  ["Upstream connections", count, 4, [["busy", "busy"], ["idle", "idle"], ["waiting", "requests waiting"]], true],
  ["WebSockets and clients", count, 4, [["tunnels", "WebSockets"], ["connections", "connections"]], true],
  ["Bytes a second", bytes, 1024, [["out", "to clients"], ["in", "from clients"]], true],
  ["Processor", percent, 0.1, [["cpu", "cores in use"]], true],
];

// A round number that is no less, for the end of an axis whose half is to be round too.
function ceiling(value, base) {
  const unit = base ** Math.floor(Math.log(value) / Math.log(base));
  const step = unit * 10 ** Math.floor(Math.log10(value / unit));
  return step * [1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10].find((n) => n * step >= value * 0.999);
}

class Chart {
  constructor([title, form, least, lines, filled]) {
    Object.assign(this, { title, form, least, lines, at: null, series: {} });
    this.root = make("figure");
    const caption = this.root.appendChild(make("figcaption"));
    caption.append(make("b", "", title));
    this.keys = lines.map(([, label], i) => {
      const key = caption.appendChild(make("span", `key s${i + 1}`, label + " "));
      return key.appendChild(make("b"));
    });
    const plot = this.root.appendChild(make("div", "plot"));
    this.svg = plot.appendChild(document.createElementNS(SVG, "svg"));
    this.svg.setAttribute("viewBox", `0 0 ${WIDE} ${HIGH}`);
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("role", "img");
    for (const y of [0, HIGH / 2, HIGH]) this.rule({ x1: 0, x2: WIDE, y1: y, y2: y });
    if (filled) this.under = this.path("under");
    this.paths = lines.map((_, i) => this.path(`s${i + 1}`));
    this.cursor = this.rule({ y1: 0, y2: HIGH });
    this.cursor.setAttribute("class", "at");
    this.ticks = ["top", "mid", "low"].map((name) => plot.appendChild(make("i", name)));
    const ends = this.root.appendChild(make("div", "ends"));
    this.when = ends.appendChild(make("span", "", "5 min ago"));
    ends.append(make("span", "", "now"));
    plot.addEventListener("pointermove", (event) => {
      const { left, width } = this.svg.getBoundingClientRect();
      this.point(Math.max(0, (event.clientX - left) / width));
    });
    plot.addEventListener("pointerleave", () => this.point(null));
  }
  rule(values) {
    const line = this.svg.appendChild(document.createElementNS(SVG, "line"));
    for (const [name, value] of Object.entries(values)) line.setAttribute(name, value);
    return line;
  }
  path(name) {
    const path = this.svg.appendChild(document.createElementNS(SVG, "path"));
    path.setAttribute("class", name);
    return path;
  }
  point(at) {
    this.at = at;
    this.legend();
  }
  legend() {
    const size = (this.series[this.lines[0][0]] || []).length;
    let index = size - 1;
    if (this.at !== null && size) index = Math.max(0, Math.min(size - 1, Math.round(this.at * (this.length - 1)) - (this.length - size)));
    const ago = (size - 1 - index) * this.interval;
    const x = ((this.length - size + index) / (this.length - 1)) * WIDE;
    this.cursor.setAttribute("visibility", this.at === null ? "hidden" : "visible");
    this.cursor.setAttribute("x1", x);
    this.cursor.setAttribute("x2", x);
    this.when.textContent = this.at === null ? `${Math.round((this.length * this.interval) / 60)} min ago` : `values ${ago} s ago`;
    this.lines.forEach(([name], i) => {
      this.keys[i].textContent = size ? this.form(this.series[name][index]) : NEVER;
    });
  }
  draw({ series, length, interval }) {
    Object.assign(this, { series, length, interval });
    const size = (series[this.lines[0][0]] || []).length;
    const most = Math.max(this.least, ...this.lines.flatMap(([name]) => series[name] || []));
    const top = ceiling(most, this.form === bytes ? 1024 : 1000);
    const x = (i) => (((length - size + i) / (length - 1)) * WIDE).toFixed(1);
    const y = (value) => (HIGH - (value / top) * HIGH).toFixed(2);
    this.lines.forEach(([name], i) => {
      const points = (series[name] || []).map((value, j) => `${x(j)} ${y(value)}`);
      this.paths[i].setAttribute("d", points.length ? "M" + points.join("L") : "");
      if (!i && this.under) this.under.setAttribute("d", size ? `M${x(0)} ${HIGH}L${points.join("L")}L${WIDE} ${HIGH}Z` : "");
    });
    [top, top / 2].forEach((value, i) => { this.ticks[i].textContent = this.form(value); });
    this.ticks[2].textContent = "0";
    this.legend();
    const now = this.lines.map(([, label], i) => `${label} ${this.keys[i].textContent}`).join(", ");
    this.svg.setAttribute("aria-label", `${this.title}, now: ${now}; the axis ends at ${this.form(top)}`);
  }
}

function table(id, columns, rows) {
  const body = make("tbody");
  for (const row of rows) {
    const line = body.appendChild(make("tr"));
    columns.forEach(([name, value]) => {
      const cell = line.appendChild(make("td"));
      cell.dataset.name = name;
      const shown = value(row);
      cell.append(shown instanceof Node ? shown : make("span", "", shown));
    });
  }
  const head = make("thead"), line = head.appendChild(make("tr"));
  for (const [name] of columns) line.appendChild(make("th", "", name)).scope = "col";
  $(id).replaceChildren(head, body);
}
function health({ up, views }) {
  const whole = up === views;
  return make("span", `badge ${whole ? "good" : "bad"}`, whole ? "healthy" : up ? `${up} of ${views}` : "down");
}
function certificate({ refused, changes }) {
  if (refused) return make("span", "badge bad", "refused");
  return changes ? make("span", "badge", `${count(changes)} new`) : "";
}
const UPSTREAM = [
  ["Upstream", (u) => u.name], ["Health", health], ["Requests/s", (u) => count(u.requests)],
  ["5xx", (u) => share(u.errors5, u.requests)], ["Median", (u) => seconds(u.p50)],
  ["95 %", (u) => seconds(u.p95)], ["Busy", (u) => count(u.busy)], ["Idle", (u) => count(u.idle)],
  ["Waiting", (u) => count(u.waiting)], ["Retries", (u) => count(u.retries)],
  ["Failed dials", (u) => count(u.dial_failures)], ["Ejected", (u) => count(u.ejections)],
  ["Certificate", certificate],
];
const WORKER = [
  ["Process", (w) => String(w.pid)], ["State", (w) => (w.draining ? "draining" : "serving")],
  ["Requests", (w) => count(w.requests)], ["Connections", (w) => count(w.connections)],
  ["Memory", (w) => bytes(w.memory)], ["Processor time", (w) => span(w.cpu)],
  ["Loop late by", (w) => seconds(w.lag)],
];

function tiles(status) {
  const { series, counters, gauges, upstreams } = status;
  const last = (name) => (series[name] || [0]).at(-1);
  const healthy = upstreams.filter((u) => u.up === u.views).length;
  const all = [
    ["Requests a second", count(last("requests")), `${count(counters.requests)} in total`],
    ["95 % within", seconds(last("p95")), `median ${seconds(last("p50"))}`],
    ["Errors (5xx)", share(last("errors5"), last("requests")), `${count(last("errors5"))} a second`],
    ["WebSockets", count(gauges.tunnels), `${count(counters.tunnels)} opened`],
    ["Client connections", count(gauges.connections), `${count(counters.refused)} refused`],
    ["Healthy upstreams", `${healthy} of ${upstreams.length}`, `${count(last("waiting"))} requests waiting`],
  ];
  const access = counters.access && counters.access.results;
  if (access) {
    const refused = Object.entries(access).filter(([name, n]) => name !== "passed" && n);
    const why = refused.map(([name, n]) => `${name} ${count(n)}`).join(", ");
    all.push(["Let pass", count(access.passed), why ? `refused: ${why}` : "nobody refused"]);
  }
  const told = status.workers.map((w) => w.certificates).filter((c) => c && (c.ends || c.missing));
  if (told.length) {
    const first = told.filter((c) => c.ends).sort((a, b) => a.ends - b.ends)[0];
    const missing = Math.max(...told.map((c) => c.missing));
    const note = missing ? `${missing} missing: see the log` : `the first: ${first.name}`;
    all.push(["Certificates hold", first ? span(Math.max(first.ends - Date.now() / 1000, 0)) : NEVER, note]);
  }
  $("tiles").replaceChildren(...all.map(([label, value, note]) => {
    const tile = make("div", "tile");
    tile.append(make("span", "", label), make("strong", "", value), make("small", "", note));
    return tile;
  }));
}
function state(text, className) {
  if ($("state").textContent !== text) $("state").textContent = text;
  $("state").className = `badge ${className}`;
}
function show(status) {
  state(status.unready || "ready", status.unready ? "bad" : "good");
  const { workers, draining } = status.gauges;
  const many = `${workers} worker${workers === 1 ? "" : "s"}${draining ? `, ${draining} draining` : ""}`;
  $("facts").textContent = `version ${status.version}, ${many}, up ${span(status.now - status.began)}`;
  tiles(status);
  for (const chart of charts) chart.draw(status);
  table("upstreams", UPSTREAM, status.upstreams);
  table("workers", WORKER, status.workers);
}

// After a reload the workers know less of the past than this page does: it goes on with its own.
let known = null;
function bridge(status) {
  const { series, interval, length, now } = status;
  const size = (series.requests || []).length;
  if (known && known.series.requests.length > size) {
    const again = Math.max(size - Math.round((now - known.now) / interval), 0);
    for (const [name, old] of Object.entries(known.series)) {
      const kept = old.slice(0, old.length - again);
      series[name] = [...kept, ...(series[name] || [])].slice(-length);
    }
  }
  if (series.requests) known = status;
}

const charts = CHARTS.map((facts) => new Chart(facts));
$("charts").append(...charts.map((chart) => chart.root));
let paused = false, interval = 2;
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Go on" : "Pause";
});
async function poll() {
  if (!paused && !document.hidden) {
    try {
      const answer = await fetch("status.json", { cache: "no-store", signal: AbortSignal.timeout(10000) });
      if (!answer.ok) throw new Error(answer.statusText);
      const status = await answer.json();
      interval = status.interval;
      bridge(status);
      show(status);
    } catch (error) {
      state("no answer", "bad");
    }
  }
  setTimeout(poll, interval * 1000);
}
document.addEventListener("visibilitychange", () => { if (!document.hidden) interval = Math.min(interval, 2); });
poll();
