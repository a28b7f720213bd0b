// Keeps the report of a run up to date until the run is over. Without it, reload the page.
(function follow() {
  const report = document.getElementById("run-report");
  if (!report) {
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", follow);
    return;
  }
  if (report.dataset.over === "yes") return;
  setTimeout(async () => {
    try {
      const answer = await fetch(location.href);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const newer = page.getElementById("run-report");
      if (newer?.dataset.over === "yes") location.reload(); // other buttons stand there now
      else if (newer) report.replaceWith(newer);
    } catch { /* the server may be restarting: ask again */ }
    follow();
  }, 1500);
})();
