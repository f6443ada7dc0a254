"""The one page of the demo.

It loads nothing from outside; `__REQUEST__` becomes the request as JSON.
"""

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>rawproxy demo</title>
<style>
:root { color-scheme: light dark; --line: #8883; --good: #1a7f37; --bad: #b3261e }
@media (prefers-color-scheme: dark) { :root { --good: #4ac26b; --bad: #ff8a80 } }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { margin: 0 } h1 small { font-size: 1rem; font-weight: normal; opacity: .7 }
main { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)) }
section { border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; min-width: 0 }
section.wide { grid-column: 1 / -1; overflow-x: auto }
h2 { font-size: 1.05rem; margin: 0 0 .6rem }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
td { border-top: 1px solid var(--line); padding: .25rem .5rem; vertical-align: top;
  overflow-wrap: anywhere }
td:first-child { white-space: nowrap; font-weight: 600 }
ul { list-style: none; margin: 0; padding: 0 } li::before { content: "\\2026 " }
li.yes::before { content: "\\2713 "; color: var(--good) }
li.no::before { content: "\\2717 "; color: var(--bad) }
input, button { font: inherit; padding: .3rem .6rem; max-width: 100% }
output { display: block; font-family: ui-monospace, monospace; font-size: .85rem;
  min-height: 1.5em; overflow-wrap: anywhere }
</style>
<h1>rawproxy <small>the demo's upstream, seen through the proxy</small></h1>
<p>This page came from an https server on <code>127.0.0.1:9443</code>. What you see is what that
server saw, after rawproxy had parsed, rewritten and forwarded your browser's request.</p>
<main>
<section><h2>What works</h2><ul id="checks">
<li data-check="https">The upstream knows that you came over https</li>
<li data-check="host">Host arrived as your browser sent it, port too</li>
<li data-check="ip">Your address arrived in X-Forwarded-For</li>
<li data-check="version">The upstream was spoken to in HTTP/1.1</li>
<li data-check="hsts">Strict-Transport-Security came with the answer</li>
<li data-check="sse">Server-sent events arrive unbuffered</li>
<li data-check="ws">A WebSocket echoes</li>
</ul></section>
<section><h2>Server-sent events</h2><output id="events">waiting</output></section>
<section><h2>WebSocket echo</h2>
<form id="echo"><input name="text" value="hello" aria-label="message"> <button>Send</button></form>
<output id="ws">connecting</output></section>
<section><h2>Upload</h2>
<form id="upload"><input type="file" name="file" aria-label="file"> <button>Send</button></form>
<output id="sum"></output></section>
<section class="wide"><h2>Your request, as the upstream saw it</h2><table id="request"></table>
</section>
</main>
<script id="facts" type="application/json">__REQUEST__</script>
<script>
const $ = id => document.getElementById(id)
const facts = JSON.parse($("facts").textContent)
const mark = (name, good) =>
  document.querySelector(`[data-check=${name}]`).className = good ? "yes" : "no"
const header = name =>
  (facts.headers.find(([n]) => n.toLowerCase() === name) || ["", ""])[1]
const row = (name, value) => {
  const line = $("request").insertRow()
  line.insertCell().textContent = name
  line.insertCell().textContent = value
}
row("request", `${facts.method} ${facts.target} HTTP/${facts.http_version}`)
for (const [name, value] of facts.headers) row(name, value)
mark("https", header("x-forwarded-proto") === "https")
mark("host", header("host") === location.host)
mark("ip", header("x-forwarded-for") !== "")
mark("version", facts.http_version === "1.1")
fetch("/echo").then(r => mark("hsts", r.headers.has("strict-transport-security")))
const events = new EventSource("/events")
events.onmessage = e => { $("events").textContent = e.data; mark("sse", true) }
events.onerror = () => mark("sse", false)
const ws = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`)
ws.onopen = () => ws.send("hello from the page")
ws.onmessage = e => { $("ws").textContent = e.data; mark("ws", true) }
ws.onclose = () => { $("ws").textContent = "closed"; mark("ws", false) }
$("echo").onsubmit = e => { e.preventDefault(); ws.send(e.target.text.value) }
$("upload").onsubmit = async e => {
  e.preventDefault()
  const file = e.target.file.files[0]
  if (!file) { $("sum").textContent = "choose a file first"; return }
  const answer = await (await fetch("/upload", { method: "POST", body: file })).json()
  $("sum").textContent = `${answer.length} bytes, SHA-256 ${answer.sha256}`
}
</script>
</html>
"""
