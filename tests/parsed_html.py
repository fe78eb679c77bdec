"""Pages of HTML as Python's own parser reads them."""

from __future__ import annotations

from html.parser import HTMLParser

_EMPTY = {"meta", "rect", "line"}


class Parsed(HTMLParser):
    """The elements and the text of a page; an element that is not closed in order is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source, self.elements, self.words, self._open = text, [], [], []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in _EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)

    def named(self, tag: str, kind: str = "") -> list[dict]:
        found = [attrs for name, attrs in self.elements if name == tag]
        return [a for a in found if kind in a.get("class", "").split(" ") or not kind]


def assert_needs_nothing_else(parsed: Parsed) -> None:
    """No script, nothing from elsewhere, and no link but to the page itself."""
    tags = {tag for tag, _ in parsed.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "base", "image"}
    for _, attrs in parsed.elements:
        assert not any(name.startswith("on") for name in attrs)
        for name in ("src", "href", "xlink:href", "data", "action"):
            assert attrs.get(name, "#").startswith("#")
    assert not any(word in parsed.source for word in ("http:", "https:", "url(", "@import"))
