// Clicks through every entry of the report and says what a reader sees of each.
async () => {
  const wait = async (condition, what) => {
    for (let i = 0; i < 200; i++) {
      const found = condition();
      if (found) return found;
      await new Promise((done) => setTimeout(done, 50));
    }
    throw new Error(`not seen: ${what}`);
  };
  const item = (text) => [...document.querySelectorAll("nav .p-3 li a")].find((a) => a.innerText.trim() === text);
  const click = async (text) => (await wait(() => item(text), text)).click();
  const rows = () => [...document.querySelectorAll("nav tbody tr")].filter((row) => row.querySelector("a"));
  let last = "";
  const content_now = () => {
    const content = document.querySelector("#app iframe, #app .p-3 > img");
    return content && content.src !== last && content;
  };
  const seen = { front: { images: 0, cells: 0 }, entries: [] };
  await wait(() => document.querySelector("nav li a"), "the menu");
  await click("Workflow");
  const front = await wait(() => document.querySelector(".prose"), "the front page");
  await wait(() => [...front.querySelectorAll("img")].every((image) => image.naturalWidth > 0), "its images");
  seen.front = { images: front.querySelectorAll("img").length, cells: front.querySelectorAll("td").length };
  for (const category of Object.keys(categories)) {
    for (const subcategory of Object.keys(categories[category])) {
      app.setView({ navbarMode: "menu", category: undefined, subcategory: undefined });
      if (Object.keys(categories).length > 1) await click(category);
      else await click("Results");
      if (Object.keys(categories[category]).length > 1) await click(subcategory);
      const expected = categories[category][subcategory].length;
      await wait(() => rows().length === expected, `${expected} entries of ${category} ${subcategory}`);
      for (let at = 0; at < expected; at++) {
        const label = rows()[at].innerText.replace(/\s+/g, " ").trim();
        rows()[at].querySelector("a").click();
        const content = await wait(content_now, label);
        last = content.src;
        if (content.tagName === "IMG") await wait(() => content.naturalWidth, label);
        const page = content.tagName === "IMG" ? "" : await (await fetch(content.src)).text();
        const table = new DOMParser().parseFromString(page, "text/html");
        const cells = table.querySelectorAll("td").length;
        seen.entries.push({ label, subcategory, cells, image: content.tagName === "IMG" });
      }
    }
  }
  return seen;
}
