"""The words of a question: typing errors of a letter put right, and synonyms turned into the concepts we know.

Concepts are written in capitals, so that a pattern over the result can't mistake one for a word of the question.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Final

# First match wins, so what is longer stands first. Patterns see lower-case words with single spaces between.
CONCEPTS: Final[tuple[tuple[str, str], ...]] = (
    (r"best ?-? ?sellers?|best selling products?", "top PRODUCT"),
    (
        r"sales ?(?:people|persons?|reps?|men|man|force|team)|sales representatives?|sellers?|reps|account managers?",
        "SALES_PERSON",
    ),
    (
        r"(?:gross |profit )?(?:margin|profit) (?:rates?|percent(?:age)?|%|ratio)|profitability|percentage margin|"
        r"margin in percent",
        "MARGIN_RATE",
    ),
    (r"average (?:order|basket)(?: (?:value|size))?|(?:order|basket) (?:value|size)|aov", "AVERAGE_ORDER"),
    (r"average (?:selling )?price|price per unit|unit price|asp", "AVERAGE_PRICE"),
    (
        r"(?:number of|how many|active) (?:customers|clients|buyers)|customer (?:count|numbers)|"
        r"(?:customers|clients|buyers)(?= (?:by|per|in each) (?:segment|region|categor|sales|month))",
        "CUSTOMER_COUNT",
    ),
    (r"stock ?-? ?outs?|out of stock|sold out|inventory|stock levels?|in stock|stocks?|shortages?", "STOCK"),
    (r"gross profits?|gross margins?|margins?|profits?|earnings|net profits?", "MARGIN"),
    (r"cost of (?:goods|sales)(?: sold)?|cogs|costs?", "COST"),
    (r"discounts?(?: given)?|rebates?", "DISCOUNT"),
    (r"units? (?:sold|sales)|sales volumes?|(?:items|pieces) sold", "UNITS"),
    (r"revenues?|turnover|income|takings|sales figures?|sales|sell|sold|selling|proceeds", "REVENUE"),
    (r"orders?|purchases|bookings", "ORDERS"),
    (r"units?|quantit(?:y|ies)|volumes?|pieces|items sold", "UNITS"),
    (r"products?|items?|articles?|skus?|goods", "PRODUCT"),
    (r"categor(?:y|ies)|product (?:groups?|lines?)|departments?", "CATEGORY"),
    (r"regions?|areas?|territor(?:y|ies)|geograph(?:y|ies)", "REGION"),
    (r"customers?|clients?|buyers?|accounts?", "CUSTOMER"),
    (r"segments?|customer groups?|channels?", "SEGMENT"),
)
MEASURES: Final[Mapping[str, str]] = {
    "REVENUE": "revenue", "ORDERS": "orders", "UNITS": "units", "MARGIN_RATE": "margin_rate", "MARGIN": "margin",
    "COST": "cost", "DISCOUNT": "discount", "AVERAGE_ORDER": "average_order", "AVERAGE_PRICE": "average_price",
    "CUSTOMER_COUNT": "customers",
}  # fmt: skip
DIMENSIONS: Final[Mapping[str, str]] = {
    "PRODUCT": "product", "CATEGORY": "category", "REGION": "region", "CUSTOMER": "customer",
    "SALES_PERSON": "sales_person", "SEGMENT": "segment",
}  # fmt: skip

# What people ask a sales analyst, and this warehouse can't tell.
NO_DATA: Final = re.compile(
    r"\b(marketing|advertis\w+|campaigns?|website|web traffic|traffic|visitors?|conversions?|salar(?:y|ies)|payroll|"
    r"employees?|headcount|budgets?|targets?|competitors?|competition|market share|weather|tax(?:es)?|cash ?flow|cash|"
    r"debts?|invoices?|payments?|returns|refunds?|complaints?|satisfaction|nps|shipping|deliver(?:y|ies)|suppliers?|"
    r"ebitda|share price|stock price|shareholders?|news|reviews?|warranty|hiring)\b"
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words that a typing error is put right to: those that the patterns here, in `dates` and in `understanding` look for.
_VOCABULARY: Final = _words(
    """
    revenue revenues turnover income sales order orders unit units quantity volume margin margins profit profits
    cost costs discount discounts product products category categories region regions customer customers client
    clients segment segments inventory stock stockout stockouts january february march april june july august
    september october november december month monthly months quarter quarterly quarters year yearly annual annually
    years week weeks report reports overview summary performance compare compared comparison versus against forecast
    predict prediction outlook trend trends bottom worst best biggest largest smallest highest lowest growth growing
    fastest reason reasons cause causes explain happened drop dropped decline declined decrease decreased increase
    increased gained lost churn churned previous current first second third fourth database tables schema average
    people person salespeople salesperson north south east west central profitability business ranking returned
    """
)
# Real words that lie a letter away from one above, and must stay.
_REAL: Final = _words(
    """
    sale sold cast coast cases clause list last least most host moth mouth worth beast test west rest east past post
    yeast fear near hear dear tear bear gear wear ear rear years older border stick stack stork shock pear year weak
    week peak seek best nest vest there their these where great event unite units untied price prices products
    profile profit process region religion legion reason season treason reasons seasons person persons march match
    may made many main fall falls fell rise rose risen dropped crops drops trend tend send spend cause pause because
    lose loss cost lost course courses customs custom regional seasonal monthly north forth south explain explains
    average averages total totals income incomes
    """
)

# Words of five letters or more that fill questions, and name nobody.
_COMMON: Final = _words(
    """
    about above after again against along among another around before behind being below between business could
    during every figure figures first found given going happen having highest inside known later least little makes
    maybe might money needs never number numbers other please quick really right seems shall should since small
    still tells thank thanks thing things think those through today total under until using value wants where which
    while whole whose within without would write years yesterday across always because chart charts company compare
    doing field fields generate spring summer autumn winter season seasons stone gold bright office works market
    markets direct online trading partners studios hotels stores resorts
    """
)

_TOKEN: Final = re.compile(r"\d{4}-\d{2}(?:-\d{2})?|[a-z]+(?:'[a-z]+)?|\d+(?:st|nd|rd|th)?|%|[-&/]")
_SHORTEST: Final = 5  # letters; in shorter words too many other words are a letter away
_COMPILED: Final = tuple((re.compile(rf"(?<![\w-])(?:{pattern})(?![\w-])"), f" {name} ") for pattern, name in CONCEPTS)


def plain(text: str) -> str:
    """Lower case without accents, words and numbers with single spaces between, spaces at both ends."""
    folded = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(c for c in folded if not unicodedata.combining(c)).replace("’", "'")
    return f" {' '.join(_TOKEN.findall(bare))} "


def corrected(text: str, names: Iterable[str] = ()) -> str:
    """The plain text with each unknown word put right where a known one is a letter away; `names` are known as well."""
    known = _VOCABULARY | {name for name in names if len(name) >= _SHORTEST}
    return " ".join(_correct(word, known) for word in text.split(" "))


def concepts(text: str) -> str:
    """The plain text with what we know of turned into concepts."""
    for pattern, name in _COMPILED:
        text = pattern.sub(name, text)
    return f" {' '.join(text.split())} "


def is_known(word: str) -> bool:
    """Whether it is a word that questions are made of, right or put right, rather than a name."""
    return word in _VOCABULARY or word in _REAL or word in _COMMON or _correct(word, _VOCABULARY) != word


def _correct(word: str, known: frozenset[str] | set[str]) -> str:
    if len(word) < _SHORTEST or not word.isalpha() or word in known or word in _REAL:
        return word
    near = sorted(other for other in known if abs(len(other) - len(word)) <= 1 and is_near(word, other))
    # Two candidates mean that we don't know: singular and plural of one word aside.
    stems = {other.removesuffix("s") for other in near}
    return near[0] if len(stems) == 1 else word


def is_near(word: str, other: str) -> bool:
    """Whether one letter was changed, left out, put in, or changed places with its neighbour. The first letter holds,
    unless it is what changed places: people seldom miss it, and many different words differ in it alone."""
    if abs(len(word) - len(other)) > 1 or word == other:
        return word == other
    start = next((n for n, (a, b) in enumerate(zip(word, other, strict=False)) if a != b), min(len(word), len(other)))
    if start == 0:
        return word[:2] == other[1::-1] and word[2:] == other[2:]
    rest, other_rest = word[start:], other[start:]
    if len(word) == len(other):
        swapped = rest[:2] == other_rest[1::-1] and rest[2:] == other_rest[2:]
        return swapped or rest[1:] == other_rest[1:]
    return rest[1:] == other_rest if len(word) > len(other) else rest == other_rest[1:]
