// Practice server: a client-side script of its own.

for (const list of document.querySelectorAll("ul[data-assets]")) {
  window.practiceList(list, `/publisher/apis/assets?type=${list.dataset.assets}`);
}
for (const form of document.querySelectorAll("form[data-search]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const query = new URLSearchParams(new FormData(form));
    window.practiceList(document.querySelector("[data-found]"), `/publisher/apis/assets?${query}`);
  });
}
