"""Draw a cover for each song, as SVG; the provider's are JPEG."""

from __future__ import annotations

import random


def render_cover(clip_id: str) -> bytes:
    """Draw circles in the colours of the clip id."""
    rng = random.Random(f"{clip_id}/cover")
    hue = rng.randrange(360)
    rings = "".join(
        f'<circle cx="{rng.randrange(512)}" cy="{rng.randrange(512)}" r="{rng.randrange(40, 220)}"'
        f' fill="hsl({hue + rng.randrange(80)} 70% 60%)" opacity=".55"/>'
        for _ in range(7)
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 512 512">'
        f'<rect width="512" height="512" fill="hsl({hue} 60% 25%)"/>{rings}</svg>'
    ).encode()
