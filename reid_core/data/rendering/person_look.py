"""What stays the same about a person in every image: build, clothes, hair and what is carried."""

from dataclasses import dataclass

import numpy as np

from reid_core.data.rendering.colors import CLOTHES, HAIR, SKIN, Color, Wardrobe, mix
from reid_core.data.rendering.randomness import pick

PATTERNS = ("plain", "hoops", "wide_hoops", "pinstripes", "check", "dots", "block", "chest_band", "print", "open")
PATTERN_WEIGHTS = (5, 2, 2, 1.5, 2, 1.5, 2, 1.5, 2, 2)


@dataclass(frozen=True)
class PersonLook:
    """Lengths are shares of the body's height.

    girth: 1 is average. leg: height of the hip. top, second: the upper garment's colour and its pattern's.
    pattern: one of PATTERNS ("open": a jacket open over a shirt of the second colour). period: of the pattern.
    sleeve: "long", "short" or "none". hem: height of the garment's lower edge; below 0.4 it is a coat or a dress.
    lower: "trousers", "wide", "shorts" or "skirt". side_stripe: whether the trousers have one.
    hair: "short", "long", "bun", "tail", "afro" or "bald". hat: "none", "cap", "beanie" or "brim".
    bag: "none", "backpack", "shoulder", "hand" or "suitcase".
    """

    girth: float
    leg: float
    head: float
    skin: Color
    top: Color
    second: Color
    pattern: str
    period: float
    sleeve: str
    sleeve_color: Color
    hem: float
    lower: str
    lower_color: Color
    side_stripe: bool
    stripe_color: Color
    shoe: Color
    hair: str
    hair_color: Color
    hat: str
    hat_color: Color
    bag: str
    bag_color: Color


def draw_person_look(rng: np.random.Generator, difficulty: float) -> PersonLook:
    """One person; rising difficulty makes colours duller and accessories rarer, so that people look more alike."""
    wardrobe = Wardrobe(rng, CLOTHES, difficulty)
    leg = float(rng.uniform(0.455, 0.505))
    top = wardrobe.draw()
    second = wardrobe.draw(unlike=top)
    pattern = pick(rng, PATTERNS, PATTERN_WEIGHTS)
    dress = rng.random() < 0.1
    coat = not dress and rng.random() < 0.15
    sleeve = pick(rng, ("long", "short", "none"), (5, 4, 1 if not coat else 0))
    contrasting_sleeve = rng.random() < 0.2
    lower = "skirt" if dress else pick(rng, ("trousers", "wide", "shorts", "skirt"), (5, 2, 2.5, 1.5))
    lower_color = top if dress else wardrobe.draw(unlike=top)
    plainness = 0.6 * difficulty  # the share of accessories that is left away at the hardest
    bag = pick(rng, ("backpack", "shoulder", "hand", "suitcase", "none"), (3, 2.4, 1.8, 0.8, 1.5 + 4 * plainness))
    hat = pick(rng, ("none", "cap", "beanie", "brim"), (3.4 + 4 * plainness, 1.2, 1.0, 0.7))
    hair = pick(rng, ("short", "long", "bun", "tail", "afro", "bald"), (4, 3, 1, 1, 0.7, 0.7))
    skin = pick(rng, SKIN)
    return PersonLook(
        girth=float(np.clip(rng.normal(1.06, 0.12), 0.84, 1.4)),
        leg=leg,
        head=float(rng.uniform(0.056, 0.066)),
        skin=skin,
        top=top,
        second=second,
        pattern=pattern,
        period=float(rng.uniform(0.045, 0.065)),
        sleeve=sleeve,
        sleeve_color=second if contrasting_sleeve else top,
        hem=0.31 if dress else (0.30 if coat else leg - 0.03 + float(rng.uniform(-0.02, 0.03))),
        lower=lower,
        lower_color=lower_color,
        side_stripe=bool(rng.random() < 0.18),
        stripe_color=wardrobe.draw(unlike=lower_color),
        shoe=wardrobe.draw(),
        hair=hair,
        hair_color=mix(skin, (60, 40, 30), 0.25) if hair == "bald" else pick(rng, HAIR),
        hat=hat,
        hat_color=wardrobe.draw(),
        bag=bag,
        bag_color=wardrobe.draw(unlike=top),
    )
