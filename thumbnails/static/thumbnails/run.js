// Keeps the report of a run up to date until the run is over. Without it, reload the page.
document.addEventListener("DOMContentLoaded", () => {
  const EVERY_MS = 2000, AT_MOST_MS = 60_000;
  const place = document.getElementById("run");
  const silent = document.getElementById("run-silent");
  const report = () => document.getElementById("run-report");
  if (!place || report().dataset.over === "yes") return;
  let wait = EVERY_MS, timer = 0, asked = Date.now();

  const plan = (ms) => {
    clearTimeout(timer);
    // A hidden tab does not poll; it does so again when it is shown.
    if (!document.hidden) timer = setTimeout(look, ms);
  };

  const look = async () => {
    asked = Date.now();
    try {
      const answer = await fetch(place.dataset.report);
      if (answer.redirected) return location.reload(); // to the login
      if (!answer.ok) throw new Error(answer.status);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const newer = page.getElementById("run-report");
      // The buttons and the log differ now.
      if (newer.dataset.state !== report().dataset.state) return location.reload();
      report().replaceWith(newer);
      // Most often there are no new ones: what a user has tabbed to stays then.
      const failures = document.getElementById("run-failures");
      const newFailures = page.getElementById("run-failures");
      if (!failures.isEqualNode(newFailures)) failures.replaceWith(newFailures);
      wait = EVERY_MS;
      silent.textContent = "";
    } catch {
      wait = Math.min(wait * 2, AT_MOST_MS);
      silent.textContent = "The server does not answer. These numbers are old; it is asked again.";
    }
    plan(wait);
  };

  document.addEventListener("visibilitychange", () => plan(Math.max(0, asked + wait - Date.now())));
  plan(EVERY_MS);
});
