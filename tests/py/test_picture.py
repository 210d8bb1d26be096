"""docs/relay.svg is what tools/picture.py draws, and it is a picture."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from tests.py.test_docs import ROOT, tool

SVG = "{http://www.w3.org/2000/svg}"


def test_the_picture_is_the_one_its_tool_draws() -> None:
    assert (ROOT / "docs" / "relay.svg").read_text() == tool("picture").picture()


def test_every_box_and_word_lies_inside_the_picture() -> None:
    root = ET.fromstring((ROOT / "docs" / "relay.svg").read_text())
    _, _, width, height = (float(number) for number in root.attrib["viewBox"].split())
    boxes = root.findall(f"{SVG}rect")
    for box in boxes:
        x, y = float(box.get("x", 0)), float(box.get("y", 0))
        assert 0 <= x <= x + float(box.attrib["width"]) <= width
        assert 0 <= y <= y + float(box.attrib["height"]) <= height
    for word in root.findall(f"{SVG}text"):
        assert 0 < float(word.attrib["x"]) < width
        assert 0 < float(word.attrib["y"]) < height
    assert {"bj-1", "sh-1", "gz-1"} <= {word.text for word in root.findall(f"{SVG}text")}
