// Links of the pages start at a page's own folder in the repository. Those that leave the folder of the documentation lead to no page of the
// book: they are made to lead to the repository, where mdBook's `.html` is `.md` again.
(function () {
    "use strict";
    const repository = "https://github.com/trajformer/trajformer/blob/main/";
    const root = new URL(typeof path_to_root === "string" ? path_to_root : "", document.baseURI);
    const here = new URL(document.baseURI).pathname.slice(root.pathname.length);
    for (const link of document.querySelectorAll("main a[href]")) {
        const target = link.getAttribute("href");
        if (/^[a-z]+:|^[#/]/i.test(target)) continue;
        const parts = ("docs/" + here).split("/").slice(0, -1);
        const [path, heading] = target.split("#");
        for (const part of path.split("/")) {
            if (part === "..") parts.pop();
            else if (part !== "." && part !== "") parts.push(part);
        }
        if (parts[0] === "docs") continue;
        const file = parts.join("/").replace(/\.html$/, ".md");
        link.href = repository + file + (heading === undefined ? "" : "#" + heading);
    }
})();
