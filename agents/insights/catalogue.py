"""The names in the bundled warehouse: products, regions, sales people, and parts of customers' names."""

from typing import Final

REGIONS: Final = ("North", "South", "East", "West", "Central")
REGION_WEIGHTS: Final = (27, 22, 20, 19, 12)
SEGMENTS: Final = ("Retail", "Hospitality", "Online", "Offices")

# Category: share of gross margin in the price at the start, then its products with their list prices.
# A product's place in the list sets how often it is bought: the first one is the best-seller.
CATALOGUE: Final[dict[str, tuple[float, tuple[tuple[str, float], ...]]]] = {
    "Lighting": (
        0.44,
        (
            ("Halo Floor Lamp", 129),
            ("Lumen Desk Lamp", 49),
            ("Orbit Pendant", 89),
            ("Ember Lantern", 32),
            ("Prism Wall Light", 64),
            ("Beacon Spotlight", 41),
            ("Glow Night Light", 18),
            ("Arc Reading Lamp", 75),
        ),
    ),
    "Kitchen": (
        0.38,
        (
            ("Barista Espresso Machine", 189),
            ("Copper Saucepan", 69),
            ("Oak Cutting Board", 35),
            ("Chef Knife Set", 99),
            ("Stoneware Bowl Set", 44),
            ("Glass Storage Jars", 27),
            ("Pour-over Kettle", 58),
            ("Linen Apron", 24),
        ),
    ),
    "Audio": (
        0.35,
        (
            ("Studio Headphones", 119),
            ("Pocket Speaker", 45),
            ("Shelf Speaker", 99),
            ("Turntable", 179),
            ("Sleep Earbuds", 69),
            ("Radio Classic", 85),
            ("Sound Bar", 149),
            ("Conference Speaker", 109),
        ),
    ),
    "Office": (
        0.41,
        (
            ("Ergo Chair", 199),
            ("Standing Desk Mat", 39),
            ("Cable Organiser", 15),
            ("Monitor Arm", 79),
            ("Paper Tray", 19),
            ("Whiteboard", 59),
            ("Laptop Stand", 42),
            ("Desk Divider", 65),
        ),
    ),
    "Outdoor": (
        0.40,
        (
            ("Cedar Planter", 54),
            ("Folding Bistro Set", 149),
            ("Rain Gauge", 16),
            ("Hammock", 72),
            ("Fire Bowl", 119),
            ("Garden Hose Reel", 48),
            ("Picnic Basket", 62),
            ("Bird Feeder", 22),
        ),
    ),
    "Textiles": (
        0.46,
        (
            ("Wool Throw", 79),
            ("Cotton Bath Towels", 36),
            ("Linen Bedding", 119),
            ("Velvet Cushion", 29),
            ("Jute Rug", 99),
            ("Blackout Curtain", 68),
            ("Quilted Blanket", 89),
            ("Table Runner", 25),
        ),
    ),
}
CATEGORY_WEIGHTS: Final = {"Lighting": 21, "Kitchen": 17, "Audio": 15, "Office": 16, "Outdoor": 15, "Textiles": 16}
PLACE_WEIGHTS: Final = (34, 16, 12, 10, 8, 8, 6, 6)

PEOPLE: Final = (
    ("Ingrid Dahl", "North"),
    ("Tomas Berg", "North"),
    ("Aino Laine", "North"),
    ("Marco Ruiz", "South"),
    ("Lucia Ferri", "South"),
    ("Nadia Costa", "South"),
    ("Pavel Novak", "East"),
    ("Eva Kovacs", "East"),
    ("Jonas Petrov", "East"),
    ("Claire Moreau", "West"),
    ("Hugo Lambert", "West"),
    ("Greta Klein", "Central"),
    ("Felix Brandt", "Central"),
)

_HEADS: Final = (
    "Alder Amber Ash Aspen Birch Bright Brook Cedar Clover Copper Crown Elm Fern Field Fox Gold Harbour "
    "Hazel Heath Iron Ivy Juniper Lark Linden Maple Marble Meadow Mill Moss Oak Olive Orchard Pine River "
    "Rowan Silver Spring Stone Willow Wren "
)
NAME_HEADS: Final = tuple(_HEADS.split())
NAME_TAILS: Final = {
    "Retail": ("Stores", "& Sons", "Home", "Trading"),
    "Hospitality": ("Hotels", "Inns", "Café Group", "Resorts"),
    "Online": ("Online", "Direct", "Market", "Shop"),
    "Offices": ("Offices", "Works", "Partners", "Studios"),
}
