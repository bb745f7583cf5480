"""Draw a cover for each song, still or moving, as SVG; the provider's are JPEG and MP4."""

from __future__ import annotations

import random

VIDEO = "video"  # follows the clip id in the name of the moving one


def render_cover(clip_id: str, moving: bool = False) -> bytes:
    """Draw circles in the colours of the clip id; in a video they go round for ever."""
    rng = random.Random(f"{clip_id}/cover")
    hue = rng.randrange(360)
    rings = "".join(
        f'<circle cx="{rng.randrange(512)}" cy="{rng.randrange(512)}" r="{rng.randrange(40, 220)}"'
        f' fill="hsl({hue + rng.randrange(80)} 70% 60%)" opacity=".55"/>'
        for _ in range(7)
    )
    turn = (
        '<animateTransform attributeName="transform" type="rotate" from="0 256 256"'
        ' to="360 256 256" dur="12s" repeatCount="indefinite"/>'
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 512 512">'
        f'<rect width="512" height="512" fill="hsl({hue} 60% 25%)"/>'
        f"<g>{turn if moving else ''}{rings}</g></svg>"
    ).encode()
