"""Everyday words. Listed for this."""

from __future__ import annotations


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NOUNS = _listed("""
    apple arrow baby basket bear bell bird boat book bottle box bread bridge brother bus cake camera candle
    car cat chair cheese child church circle city clock cloud coat coin corner cow crowd cup daughter desk
    doctor dog door dress driver duck eagle ear egg engine evening eye face family farmer fence field finger
    fire fish flag flower forest fox friend frog fruit garden gate girl glass glove gold grass guest guitar
    hand hat hill honey horse house ice insect island jacket jar jewel judge juice jungle key king kitchen
    kite ladder lake lamp leaf letter lion lock market meal milk mirror money moon morning mountain mouse
    music nail neck nest newspaper night noise nurse nut ocean oil onion orange oven owl page paint paper park
    pen picture pillow plant plate pocket queen question quilt rabbit radio rain ribbon ring river road rock
    roof room rope rose school shadow sheep ship shirt shoe silver sister snake snow soldier song spoon star
    stone storm street sugar sun table teacher tent tiger tooth tower town train tree truck uncle umbrella
    valley van vase village violin voice wagon wall watch water wheel whistle window winter wolf yard zebra
    zoo
""")
ADJECTIVES = _listed("""
    big black blue bright brown calm clean cold dark deep dry dusty early empty fast gentle golden gray
    green happy heavy hidden hungry kind large late little lonely long loud lucky narrow new noisy old pale
    plain proud quick quiet red rich round sharp short shy silent simple sleepy slow small soft steep strange
    strong sweet tall tiny tired warm wet white wide wild wise young
""")
