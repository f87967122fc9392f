// Practice server: a client-side script of its own.

for (const form of document.querySelectorAll("form[data-create]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const answer = await fetch(form.action, {method: "POST", body: new URLSearchParams(new FormData(form))});
    if (answer.ok) {
      location.href = `/publisher/assets/${form.dataset.create}/list`;
    } else {
      document.querySelector("[data-error]").textContent = (await answer.json()).error;
    }
  });
}
