// Practice server: a client-side script of its own.
document.documentElement.classList.add("scripts");
