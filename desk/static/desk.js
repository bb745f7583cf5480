// Live updates, and times in the reader's zone. Without this script the page shows all the same.
"use strict";
(() => {
  const EVERY_MS = 1500;
  const styles = { day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
  const local = new Intl.DateTimeFormat(undefined, styles);

  function localise(root) {
    for (const each of root.querySelectorAll("time.at")) {
      each.textContent = local.format(new Date(each.dateTime));
    }
  }

  localise(document);
  document.addEventListener("htmx:after:swap", () => localise(document));

  // What goes on in slices: this page has the form for the next one.
  document.querySelector("form.goes-on")?.requestSubmit();

  // Who has been logged out gets the login form instead of the region: load the whole page then.
  document.addEventListener("htmx:before:swap", (event) => {
    if (event.detail.ctx.text.includes('id="live"')) return;
    event.preventDefault();
    location.reload();
  });

  const live = () => document.getElementById("live");
  if (!live() || !window.EventSource) return;

  // A turn refreshes the page at once, or when the last refresh is long enough ago.
  let waits = false;
  let last = 0;

  function refresh() {
    waits = false;
    if (document.hidden) {
      waits = true;
      return;
    }
    last = Date.now();
    document.body.dispatchEvent(new Event("refresh"));
  }

  function heard(event) {
    const watched = live()?.dataset.watch;
    if (watched && !watched.split(" ").includes(JSON.parse(event.data).job_id)) return;
    if (waits) return;
    waits = true;
    setTimeout(refresh, Math.max(0, last + EVERY_MS - Date.now()));
  }

  // What stands outside jobs, as a gate that is paused elsewhere, is no turn: look now and then.
  const every = Number(live().dataset.every);
  if (every) setInterval(() => { if (!waits && !document.hidden && live()?.dataset.every) refresh(); }, every * 1000);

  const turns = new EventSource("/api/v1/events");
  turns.addEventListener("turn", heard);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && waits) refresh();
  });
})();
