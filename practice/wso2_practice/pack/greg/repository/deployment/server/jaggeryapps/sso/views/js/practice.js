// Practice server: a client-side script of its own.

for (const form of document.querySelectorAll("form[data-register], form[data-recovery]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const target = form.dataset.recovery ?? "/sso/register";
    const answer = await fetch(target, {method: "POST", body: new URLSearchParams(new FormData(form))});
    document.querySelector("[data-told]").textContent = answer.ok ? JSON.parse(await answer.text()).msg : "This did not work.";
  });
}
