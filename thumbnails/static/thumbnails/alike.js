// Counts anew when something is ticked. Without it, the form's button does so.
document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("alike");
  const place = document.getElementById("alike-chosen");
  if (!form) return;
  let latest = "";
  form.querySelector("button").hidden = true;

  form.addEventListener("change", async () => {
    const query = latest = `?${new URLSearchParams(new FormData(form))}`;
    // So that the page is the same after a visit to the plan.
    history.replaceState(null, "", query);
    place.textContent = "Counting …";
    let page;
    try {
      const answer = await fetch(form.dataset.chosen + query);
      if (answer.redirected) return location.reload(); // to the login
      if (!answer.ok) throw new Error(answer.status);
      page = new DOMParser().parseFromString(await answer.text(), "text/html");
    } catch {
      if (query === latest) place.textContent = "The server does not answer. Tick it again.";
      return;
    }
    if (query === latest) place.replaceChildren(...page.body.children);
  });
});
