// Names the search fields of Django's autocompletes, which screen readers call by nothing.
document.addEventListener("DOMContentLoaded", () => window.django?.jQuery(() => {
  // Django's own callback, which makes the fields, is called before this one.
  for (const select of document.querySelectorAll("select.admin-autocomplete")) {
    const field = select.parentElement.querySelector(".select2-search__field");
    field?.setAttribute("aria-label", select.labels[0]?.textContent.replace(/:$/, "") ?? "Search");
  }
}));
