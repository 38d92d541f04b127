"""The words that the grammar knows: for each meaning the ways to say it, longer ones first."""

from collections.abc import Mapping
from typing import Final

_MONEY: Final = "(?:revenues?|sales|turnover)"
# Measures by name. The first that matches takes the words.
MEASURES: Final[Mapping[str, str]] = {
    "median_order": "median (?:order|basket)(?: (?:value|size))?|median value of (?:an |the )?orders?",
    "average_order": (
        "(?:average|mean|typical) (?:order|basket)(?: (?:value|size)s?)?|aov|(?:order|basket) (?:value|size)s?"
        f"|(?:average |mean )?{_MONEY} per order|average value (?:of|per) (?:an |the )?orders?"
    ),
    "discount_rate": "(?:average|mean|typical) discounts?(?: rates?)?|discount (?:rates?|percentages?|in percent)",
    "average_price": "(?:average|mean) (?:selling |unit )?prices?(?: per unit)?|price per unit|asp|revenue per unit",
    "unit_cost": "(?:average |mean )?(?:unit costs?|costs? per unit)|average costs?",
    "revenue_per_customer": (
        f"(?:average |mean )?{_MONEY} per (?:active )?(?:customer|client|buyer)|"
        f"average {_MONEY} of a customer|(?:average |mean )?customer {_MONEY}"
    ),
    "orders_per_customer": "(?:average |mean )?(?:number of )?orders per (?:customer|client|buyer)",
    "units_per_order": "(?:average |mean )?(?:number of )?(?:units|items|pieces) per order",
    "margin_rate": (
        "(?:gross |profit )?margins? (?:rates?|percentages?|ratios?|in percent|percent|%)|profit margins?|"
        "profitability|percentage margins?"
    ),
    "margin": "gross profits?|gross margins?|margins?|profits?",
    "cost": "costs? of goods(?: sold)?|cogs|costs?",
    "discount": "discounts? given|discount amounts?|discounts?",
    "customers": (
        "(?:number|count) of (?:active )?(?:customers|clients|buyers)|active (?:customers|clients|buyers)|customer"
        " (?:count|numbers)|(?:customers|clients|buyers)(?= (?:by|per|in each)"
        " (?:segment|region|categor|month|quarter|year|week|day))"
    ),
    "orders": "(?:number|count) of (?:orders|purchases)|sales orders|orders? counts?|orders|purchases|times",
    "units": (
        "(?:number of )?(?:units|pieces)(?: sold)?|units? sales|items sold|quantity|quantities|(?:sales )?volumes?"
    ),
    "revenue": "sales (?:revenues?|figures?|values?|numbers)|revenues?|turnover|takings|sales",
}
RANKED_BY: Final = "(?:(?:ranked |sorted |ordered |measured )?by |in terms of |according to |with |of )?"
SOLD: Final = "sold|sells?|selling|make|made|earn(?:ed)?|earned|bring in|brought in|bring|brought|take in|generated"
BOUGHT: Final = "bought|buys?|buying|ordered|order|purchased?|spent|spend"
DIMENSIONS: Final[Mapping[str, str]] = {
    "sales_person": "sales ?(?:people|persons?|reps?|men|man|woman|team|staff)|sales representatives?|sellers?|reps?|"
    "account managers?",
    "category": "(?:product )?(?:category|categories)|product (?:groups?|lines?)",
    "segment": "(?:customer )?segments?|customer groups?|channels?",
    "product": "products?|items?|articles?|skus?|best ?sellers",
    "region": "regions?|areas?|territory|territories",
    "customer": "customers?|clients?|buyers?|accounts?",
    "weekday": "weekdays?|days? of the week",
    "month": "months?", "quarter": "quarters?", "week": "weeks?", "day": "days?|dates?", "year": "years?",
}  # fmt: skip
GRAINS: Final[Mapping[str, str]] = {
    "day": "daily", "week": "weekly", "month": "monthly|month by month|over time",
    "quarter": "quarterly|quarter by quarter", "year": "yearly|annually|annual|year by year",
}  # fmt: skip
BY: Final = (
    "(?:split |broken down |grouped |break down |breakdown )?by(?: the)?|per|(?:for |in |of"
    " )?(?:each|every)|across(?: the)?|(?:split|breakdown) (?:up )?(?:into|over|of)"
)
TREND: Final = "trends?|course|development|developed?|evolution|history|evolve[ds]?"
# Jobs that a word settles by itself.
WHY: Final = (
    "why|how come|what (?:has )?caused|what happened(?: (?:to|with|in))?|(?:what (?:was|is|were|are) )?(?:the"
    " )?(?:causes?|reasons?|drivers?)(?: (?:of|for|behind))?|what (?:drove|drives)|(?:what is |what was )?behind|what"
    " made|explain|what explains|how is it that"
)
ADVICE: Final = (
    "what (?:should|can|could|must) (?:we|i) do(?: about)?|how (?:should|can|could) (?:we|i) (?:fix|stop|react to)"
)
REPORT: Final = (
    "(?:business |sales |performance |management )*(?:reports?|overview|summary|dashboard|briefing)"
    "(?: (?:for|on|of|about) (?:our |the )?(?:sales )?performance)?|doing|going(?! (?:up|down))|perform(?:ing|ed)?|"
    "performance|tell (?:me|us) (?:something |more )?about|(?:our )?sales performance"
)
FORECAST: Final = "will|forecasts?|predict(?:ion|ions|ed)?|projections?|projected|outlook|expected"
STOCK_OUT: Final = (
    "(?:went |was |were |run |ran |running |sold |be |been )*(?:out of stock|stock ?outs?|sold out|out of)|without"
    " stock"
)
STOCK: Final = "(?:left )?in stock|on hand|stock levels?|inventory|stocks?"
LOST: Final = (
    "(?:did we |have we |we )?(?:lost|lose|losing)|churn(?:ed)?|stopped (?:ordering|buying)|went away|(?:have"
    " )?left(?: us)?"
)
GAINED: Final = "(?:did we |have we |we )?(?:gain(?:ed)?|w[io]n|acquired?)|new|first time"
EVENTS: Final[Mapping[str, str]] = {
    "promotion": "promotions?|promo|discount (?:campaigns?|actions?)|special offers?",
    "price": (
        "(?:list )?price (?:changes?|rises?|increases?|cuts?|moves?)|(?:list )?prices? (?:went up|rose|rise|"
        "increased?|changed?|raised|been raised)|(?:raise[ds]? |increased? |changed? )(?:the |our |list )*prices"
    ),
    "cost": (
        "(?:unit |supplier )?costs? (?:changes?|rises?|increases?|went up|rose|rise|increased?|changed?)|"
        "supplier (?:price|cost) (?:increases?|rises?)"
    ),
}
STAFF: Final = "(?:sales ?(?:people|persons?|reps?|staff)|who|staff) (?:who |that |have |has )?(?:left|quit|gone)"
EFFECT: Final = "(?:what was |what is )?(?:the )?(?:effects?|impact|consequences?) of|affect(?:ed)?|cost us"
SCHEMA: Final = (
    "what data there is|(?:which|what) (?:data|tables|measures|figures|numbers)"
    " (?:do|does|have|is|are|can)\\b.*|help|what can (?:you|i) (?:do|ask|answer|tell)|(?:database |data"
    " )?schema|(?:describe |about )the data(?:base)?"
)
SHARE: Final = (
    "(?:what )?(?:shares?|percentages?|proportions?|parts?|fractions?|percent) of|(?:in )?percent of|(?:revenue"
    " |sales )?shares?|contribution of|how much of"
)
COMPARE: Final = (
    "(?:compare|compares|compared|comparing|comparison|comparisons)(?: (?:to|with))?(?:"
    " of)?|versus|vs|against|than|relative to|differences?|(?:as )?opposed to"
)
GROWTH: Final = "growth|grow(?:n|ing|s)?|grew|changes?|changed"
UP: Final = (
    "rise|rose|risen|rising|up|increas(?:e[ds]?|ing)|higher|jump(?:ed)?|better|grow(?:ing)?|grew|growth|"
    "(?:went|go|going|gone) up"
)
DOWN: Final = (
    "fall(?:s|en|ing)?|fell|drop(?:s|ped|ping)?|declin(?:e[ds]?|ing)|decreas(?:e[ds]?|ing)|lower|shr[iau]nk(?:ing)?|"
    "(?:go |went |gone |going )?down|sank|worse|collapse[d]?"
)
TOP: Final = "top|best(?: selling)?|biggest|largest|highest|most|strongest|leading|greatest|maximum"
BOTTOM: Final = "bottom|worst(?: selling)?|lowest|smallest|least|weakest|poorest|fewest|minimum"
FASTEST: Final = "fastest(?: growing)?|growing(?: the)? fastest|grew (?:the )?(?:most|fastest)|strongest growth"
STEEPEST: Final = (
    "declin(?:ed|ing) (?:the )?most|f[ae]ll (?:the )?most|shrank (?:the )?most|steepest decline|dropped (?:the )?most"
)
LIMITS: Final[Mapping[str, str]] = {
    ">=": "at least|no less than", "<=": "at most|up to|no more than",
    ">": "above|over|more than|greater than|exceeding|higher than|>",
    "<": "below|under|less than|fewer than|lower than|<",
}  # fmt: skip
# Signs that what follows is left out, or that nothing of it was sold.
EXCEPT: Final = (
    "excluding|excludes?|without|except(?: for)?|but not|and not|not|other than|apart from|ignoring|ignore|leaving"
    " out|leave out|minus|rather than"
)
NOTHING: Final = (
    "(?:(?:did|do|does|have|has|were|was|had) )?(?:not|never)(?: yet| been)?"
    " (?:sell|sold|bought|buy|ordered|order|purchased?)(?: (?:at all|anything))?|(?:without|no|had no|with no|have"
    " no|not any) (?:any )?(?:sales|orders|purchases|revenue)|(?:sold|bought|ordered|buy|order|sell) nothing"
)
DAYS: Final[Mapping[str, str]] = {
    "weekend": "weekends?|saturdays? and sundays?", "weekday": "weekdays|working days|business days",
    "monday": "mondays?", "tuesday": "tuesdays?", "wednesday": "wednesdays?", "thursday": "thursdays?",
    "friday": "fridays?", "saturday": "saturdays?", "sunday": "sundays?",
}  # fmt: skip
CHARTS: Final[Mapping[str, str]] = {
    "pie": "(?:as |in )?(?:an? )?(?:pie|donut|ring)(?: charts?)?",
    "bar": "(?:as |in )?(?:an? )?(?:bars?|column)(?: charts?)?",
    "line": "(?:as |in )?(?:an? )?(?:line|curve)(?: charts?)?",
}
POSITIONS: Final = (
    "(?:the )?(?P<n>first|1st|second|2nd|third|3rd|top|number one|last)(?: one| of (?:them|those|these))|"
    "(?:the )?(?P<m>winner|leader)"
)
LEANS: Final = (
    "(?:and|or|but|ok|okay|so|then|now|also|instead|same|just|only)\\b|(?:what|how) about\\b|exclud|without|except|as"
    " an?\\b"
)
# What the data doesn't hold, and why a question about it gets a no.
REFUSED: Final[Mapping[str, str]] = {
    "dollars?|usd|us dollars?|pounds?|gbp|francs?|chf|yen|us\\$|\\$": (
        "amounts are in EUR, and the data has no exchange rates"
    ),
    "what if|if we|suppose|scenarios?|simulat\\w+": "I compute no scenarios: the data holds what happened",
    "retention|cohorts?": "I don't compute retention by cohort; I can list customers gained and lost",
    "correlat\\w+|regression": "I don't compute correlations",
    "anomal\\w+|outliers?": "I don't search for anomalies; I can give the best and worst day, and causes of a change",
    "delete|drop table|insert|update|truncate|alter|create table": "I only read the data",
}
_FILLERS_WORDS: Final = (
    "a an the of in on at for to from with and or our we us you i me my your it its is are was were be been do "
    "does did done have has had how what which who whose when where much many please could can show tell give get "
    "list display find about there these those them they he she so also just only exactly in total overall "
    "altogether know like want need let see say s - / hi hello hey thanks thank ok okay now then but as that this "
    "any some quick quickly question figures figure number numbers made during within all came come comes went "
    "both business company wholesale data generate create write make produce prepare us really actually simply "
    "roughly approximately long far out into our had ones "
)
FILLERS: Final = frozenset(_FILLERS_WORDS.split())
FOREIGN: Final = (
    "der die das und wie war la el los las del les des le quel quelle est sont por en im il che cuales fueron ventas "
    "mes pasado umsatz monat chiffre mois combien"
)
