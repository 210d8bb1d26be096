#!/usr/bin/env python3
"""Draws docs/relay.svg, the picture of the README: one stream, three relays, two viewers.

python tools/picture.py > docs/relay.svg        (tests/py/test_picture.py keeps the two equal)
"""

from __future__ import annotations

BOX = {"publisher": "#fde8c8", "relay": "#d9e8fb", "viewer": "#dcf3dc"}


def box(x: int, y: int, w: int, h: int, kind: str, title: str, *lines: str) -> str:
    text = [
        f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="8" fill="{BOX[kind]}" stroke="#345" stroke-width="1.5"/>'
    ]
    text.append(f'<text x="{x + w // 2}" y="{y + 24}" class="title">{title}</text>')
    text += [f'<text x="{x + w // 2}" y="{y + 44 + 17 * i}" class="line">{line}</text>' for i, line in enumerate(lines)]
    return "\n".join(text)


def arrow(x1: int, y1: int, x2: int, y2: int, label: str, dashed: bool = False) -> str:
    style = 'marker-end="url(#tip)"' + (' stroke-dasharray="5 4"' if dashed else "")
    return (
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#345" stroke-width="1.8" {style}/>\n'
        f'<text x="{(x1 + x2) // 2}" y="{(y1 + y2) // 2 - 8}" class="label">{label}</text>'
    )


def picture() -> str:
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 920 300" role="img" '
        'aria-label="A stream published at bj-1 is pulled by sh-1 and gz-1 over KCP and played by viewers">',
        '<defs><marker id="tip" markerWidth="9" markerHeight="9" refX="8" refY="4.5" orient="auto">'
        '<path d="M0,0 L9,4.5 L0,9 z" fill="#345"/></marker></defs>',
        "<style>text{font-family:sans-serif;fill:#123;text-anchor:middle}.title{font-size:16px;font-weight:600}"
        ".line{font-size:12.5px}.label{font-size:12px;fill:#456}</style>",
        '<rect width="920" height="300" fill="white"/>',
        box(20, 60, 140, 80, "publisher", "publisher", "ffmpeg, SFU edge", "H.264 + Opus"),
        box(230, 50, 160, 100, "relay", "bj-1", "origin relay:", "gives media numbers", "PLI to the publisher"),
        box(480, 50, 160, 100, "relay", "sh-1", "one pull upstream,", "fan-out to children", "and to its viewers"),
        box(730, 50, 170, 100, "relay", "gz-1", "replay cache answers", "NACK and joiners,", "PLI merged upstream"),
        box(730, 210, 170, 70, "viewer", "viewers", "ffplay, VLC, SFU edges"),
        box(480, 210, 160, 70, "viewer", "viewers", "one buffer for all"),
        arrow(160, 100, 228, 100, "RTP"),
        arrow(390, 90, 478, 90, "media, KCP"),
        arrow(640, 90, 728, 90, "media, KCP"),
        arrow(480, 130, 392, 130, "", dashed=True),
        arrow(730, 130, 642, 130, "", dashed=True),
        '<text x="435" y="148" class="label">pull, ACK</text>',
        '<text x="685" y="148" class="label">pull, ACK</text>',
        arrow(815, 150, 815, 208, ""),
        arrow(560, 150, 560, 208, ""),
        '<text x="840" y="184" class="label">RTP</text>',
        '<text x="585" y="184" class="label">RTP</text>',
        '<text x="300" y="30" class="label">the mesh: every hop measured, every packet accounted for</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    print(picture(), end="")
