"""Checks a built site: all links and assets exist, and no page loads anything from another host."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urlsplit

LOADED = {"script": "src", "img": "src", "source": "src", "iframe": "src", "link": "href"}
NO_ASSET = {"canonical", "search", "index", "next", "prev", "author", "copyright"}


class Page(HTMLParser):
    """Collects what a page links to, what it loads and the anchors that it has."""

    def __init__(self, text):
        super().__init__()
        self.links, self.assets, self.anchors = set(), set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Notes one element."""
        values = dict(attrs)
        self.anchors |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag == "a" and values.get("href"):
            self.links.add(values["href"])
        url = values.get(LOADED.get(tag))
        if url and not (tag == "link" and values.get("rel") in NO_ASSET):
            self.assets.add(url)


def find_errors(site):
    """Returns one line per link that leads nowhere and per asset of another host."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    return sorted(
        f"{path.relative_to(site)}: {fault}"
        for path, page in pages.items()
        for fault in _of_page(path, page, pages)
    )


def _of_page(path, page, pages):
    for url in page.assets:
        if urlsplit(url).netloc:
            yield f"loads {url}"
    for url in page.links | page.assets:
        parts = urlsplit(url)
        if parts.scheme or parts.netloc:
            continue
        target, anchor = urldefrag(url)
        file = (path.parent / unquote(target.partition("?")[0])).resolve() if target else path
        if not file.is_file():
            yield f"{url} leads nowhere"
        elif anchor and file in pages and unquote(anchor) not in pages[file].anchors:
            yield f"{url}: the page has no such anchor"
