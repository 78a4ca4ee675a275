"""What a person sees of a page, in a real browser."""

from __future__ import annotations

import base64
import contextlib
import re
import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium import webdriver

PHONE, DESKTOP = 390, 1280
HEIGHT = 900
LEGIBLE = 4.5
"""The contrast ratio that WCAG asks for."""

_SIDEWAYS = """
const wide = innerWidth + 0.5, found = [];
if (document.documentElement.scrollWidth > document.documentElement.clientWidth) found.push("page");
for (const each of document.body.querySelectorAll("*")) {
  const style = getComputedStyle(each), place = each.getBoundingClientRect();
  const scrolls = ["auto", "scroll"].includes(style.overflowX);
  if (scrolls && each.scrollWidth > each.clientWidth) found.push("scrolls: " + each.outerHTML);
  if (place.width && place.right > wide && style.clipPath === "none")
    found.push("sticks out: " + each.outerHTML);
}
return found.map(text => text.slice(0, 200));
"""
_BROKEN = """
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
while (walker.nextNode()) {
  const node = walker.currentNode;
  if (["SCRIPT", "STYLE"].includes(node.parentElement.tagName)) continue;
  for (const word of node.data.matchAll(/[^\\s,]+,?/g)) {
    const range = document.createRange();
    range.setStart(node, word.index);
    range.setEnd(node, word.index + word[0].length);
    const lines = new Set([...range.getClientRects()].map(each => Math.round(each.top)));
    if (lines.size > 1) found.push(word[0]);
  }
}
return found;
"""
_SCROLL_BARS = """
return [...document.querySelectorAll("*")].filter(each => {
  const style = getComputedStyle(each);
  return [style.overflowX, style.overflowY].some(way => ["auto", "scroll"].includes(way))
    && (each.scrollHeight > each.clientHeight || each.scrollWidth > each.clientWidth);
}).map(each => each.outerHTML.slice(0, 200));
"""
_COLOURS = """
const behind = [], element = document.querySelector(arguments[0]);
for (let each = element; each; each = each.parentElement) {
  behind.push(getComputedStyle(each).backgroundColor);
}
return [getComputedStyle(element).color, behind.find(each => !/, 0\\)|\\/ 0\\)/.test(each))];
"""


@contextlib.contextmanager
def seen(
    driver: webdriver.Chrome, width: int, *, scheme: str = "light", media: str = ""
) -> Iterator[None]:
    """See pages at a width of so many CSS pixels, in light or dark, on a screen or on paper."""
    is_bare = width == PHONE or media == "print"  # no scroll bar takes of the width
    metrics = {"width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": is_bare}
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    try:
        yield
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


def sideways(driver: webdriver.Chrome) -> list[str]:
    """Return what scrolls sideways, or sticks out of the page."""
    return t.cast("list[str]", driver.execute_script(_SIDEWAYS))


def broken_words(driver: webdriver.Chrome) -> list[str]:
    """Return the words that stand on more than one line."""
    return t.cast("list[str]", driver.execute_script(_BROKEN))


def scroll_bars(driver: webdriver.Chrome) -> list[str]:
    """Return the elements that have to be scrolled to see all of them."""
    return t.cast("list[str]", driver.execute_script(_SCROLL_BARS))


def printed_pages(driver: webdriver.Chrome) -> int:
    """Print to PDF; return how many pages that takes."""
    pdf = driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    return len(re.findall(rb"/Type\s*/Page\b", base64.b64decode(pdf["data"])))


def contrast(driver: webdriver.Chrome, selector: str) -> float:
    """Return the contrast ratio of WCAG between an element's text and what is behind it."""
    levels = []
    for colour in driver.execute_script(_COLOURS, selector):
        channels = [float(number) for number in re.findall(r"[\d.]+", colour)[:3]]
        if colour.startswith("rgb"):
            channels = [channel / 255 for channel in channels]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        levels.append(sum(map(float.__mul__, (0.2126, 0.7152, 0.0722), linear)) + 0.05)
    return max(levels) / min(levels)
