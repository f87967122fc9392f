// Practice server: a client-side script of its own.

// Fills a list with the assets that an address gives; without the template of its rows it stays empty, as the product's does.
window.practiceList = async (list, address) => {
  const template = await fetch("/publisher/themes/default/partials/list_assets_table_body.hbs");
  const answer = await fetch(address, {credentials: "same-origin"});
  const found = template.ok && answer.ok ? (await answer.json()).data : [];
  list.replaceChildren(...found.map((asset) => {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = `/publisher/assets/${asset.type}/details/${asset.id}`;
    link.textContent = asset.name;
    item.append(link, ` ${asset.lifecycleState}`);
    return item;
  }));
};
