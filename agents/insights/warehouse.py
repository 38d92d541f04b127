"""The bundled business data: a wholesaler's sales over 24 months, made from a seed as one SQLite file.

Amounts are EUR. The months have a season and a slow growth, and a few incidents: a best-seller runs out of stock,
prices rise, a region is lost, there is a promotion, a supplier gets dearer, one large customer leaves and another
comes. No table names them: they show only in orders, prices, costs, stock and staff.
"""

# ruff: noqa: S311, S608 - randomness makes sample data, and the SQL holds constant table names

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random

from askstream.agents.insights.catalogue import (
    CATALOGUE,
    CATEGORY_WEIGHTS,
    NAME_HEADS,
    NAME_TAILS,
    PEOPLE,
    PLACE_WEIGHTS,
    REGION_WEIGHTS,
    REGIONS,
    SEGMENTS,
)
from askstream.server import private

FIRST_DAY = date(2024, 11, 1)
LAST_DAY = date(2026, 10, 31)

SCHEMA = """
CREATE TABLE regions (region_id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE sales_people (
    sales_person_id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
    region_id INTEGER NOT NULL REFERENCES regions, hired_on TEXT NOT NULL, left_on TEXT);
CREATE TABLE categories (category_id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE products (
    product_id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
    category_id INTEGER NOT NULL REFERENCES categories, list_price REAL NOT NULL, unit_cost REAL NOT NULL);
CREATE TABLE customers (
    customer_id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, segment TEXT NOT NULL,
    region_id INTEGER NOT NULL REFERENCES regions, signed_up_on TEXT NOT NULL);
CREATE TABLE orders (
    order_id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers,
    sales_person_id INTEGER NOT NULL REFERENCES sales_people, ordered_on TEXT NOT NULL);
CREATE TABLE order_lines (
    order_id INTEGER NOT NULL REFERENCES orders, line_no INTEGER NOT NULL,
    product_id INTEGER NOT NULL REFERENCES products, quantity INTEGER NOT NULL,
    unit_price REAL NOT NULL, unit_cost REAL NOT NULL, discount REAL NOT NULL,
    PRIMARY KEY (order_id, line_no)) WITHOUT ROWID;
CREATE TABLE inventory (
    product_id INTEGER NOT NULL REFERENCES products, day TEXT NOT NULL, on_hand INTEGER NOT NULL,
    PRIMARY KEY (product_id, day)) WITHOUT ROWID;
CREATE VIEW sales AS
SELECT o.order_id, o.ordered_on, substr(o.ordered_on, 1, 7) AS month,
       c.name AS customer, c.segment, r.name AS region, s.name AS sales_person,
       p.name AS product, k.name AS category, l.quantity, l.unit_price, l.unit_cost, l.discount,
       l.quantity * l.unit_price * (1 - l.discount) AS revenue, l.quantity * l.unit_cost AS cost
FROM orders o
JOIN order_lines l ON l.order_id = o.order_id
LEFT JOIN customers c ON c.customer_id = o.customer_id
LEFT JOIN regions r ON r.region_id = c.region_id
LEFT JOIN sales_people s ON s.sales_person_id = o.sales_person_id
LEFT JOIN products p ON p.product_id = l.product_id
LEFT JOIN categories k ON k.category_id = p.category_id;
"""
INDEXES = """
CREATE INDEX orders_ordered_on ON orders (ordered_on);
CREATE INDEX orders_customer ON orders (customer_id, ordered_on);
ANALYZE;
"""

SMALL_CUSTOMERS = 178

# Orders rise before Christmas and dip in winter and high summer; the months of one year, January first.
SEASON = (0.90, 0.88, 0.97, 1.00, 1.02, 1.00, 0.93, 0.91, 1.03, 1.04, 1.17, 1.21)
GROWTH_PER_MONTH = 1.008
ORDERS_PER_MONTH = 507  # with 3.6 lines an order this gives about 50,000 lines in 24 months
LINES_PER_ORDER = (2, 3, 3, 4, 4, 4, 5)
LINE_VALUE = 270  # about, in EUR at first prices: buyers order more of cheap products


@dataclass(frozen=True, slots=True)
class Product:
    id: int
    name: str
    category: str
    price: float
    cost: float
    weight: int  # of all order lines, relative to the other products


@dataclass(frozen=True, slots=True)
class Customer:
    id: int
    name: str
    segment: str
    region: str
    share: float  # of all orders, relative to the other customers
    since: date
    until: date


@dataclass(frozen=True, slots=True)
class Line:
    order: int
    customer: int
    seller: int
    day: date
    product: Product
    quantity: int
    price: float
    cost: float
    discount: float


# The incidents. Each changes behaviour from a day on; none is stored as such.
STOCK_OUT = ("Halo Floor Lamp", date(2026, 10, 3), date(2026, 10, 27))
SMALL_STOCK_OUT = ("Hammock", date(2025, 6, 9), date(2025, 6, 20))
PRICE_RISE = ("Audio", date(2026, 3, 1), 1.20, 0.55)  # prices by a fifth, demand falls to 55 %
LOST_REGION = ("West", date(2026, 7, 1), 0.05)
PROMOTION = ("Outdoor", date(2026, 5, 1), date(2026, 5, 31), 0.25, 2.4)  # a quarter off, demand times 2.4
COST_RISE = ("Textiles", date(2025, 8, 1), 1.30)
LOST_CUSTOMER = ("Halvorsen Retail Group", "Retail", "East", 7.5, FIRST_DAY, date(2026, 1, 31))
WON_CUSTOMER = ("Blue Harbour Hotels", "Hospitality", "South", 5.0, date(2025, 9, 1), LAST_DAY)


def build(path: Path, *, seed: int = 7) -> None:
    """Write the warehouse to `path`, replacing a file there atomically. The same seed gives the same rows."""
    private.make_folder(path.parent)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    try:
        _write(Path(name), Random(seed))
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def build_in_child(path: Path) -> Callable[[], None]:
    """Start `build` in a child process. Return a function that waits for it and raises the errors of `build`.

    In this process it would hold the GIL for half a second and delay requests and AutoGen's import.
    """
    # -P: the child must not import a random.py, say, from the current folder.
    command = [sys.executable, "-P", "-m", __name__, str(path)]
    quiet = subprocess.DEVNULL
    try:
        child = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)  # noqa: S603 - this module, in this interpreter
    except OSError:  # sys.executable isn't Python, as in a program that embeds it
        return partial(build, path)

    def finish() -> None:
        if child.wait() != 0:
            build(path)  # it may work here, or raise the reason

    return finish


def _write(path: Path, rng: Random) -> None:
    products, customers = _products(), _customers(rng)
    lines = list(_lines(rng, products, customers))
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # No rollback journal: the file is renamed into place only when it is whole.
        connection.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + SCHEMA)
        connection.execute("BEGIN")
        _insert_people(connection)
        _insert_catalogue(connection, products, lines)
        _insert_customers(connection, customers)
        _insert_orders(connection, lines)
        _insert(connection, "inventory", _stock(products, lines))
        connection.execute("COMMIT")
        connection.executescript(INDEXES)
    finally:
        connection.close()


def _insert(connection: sqlite3.Connection, table: str, rows: Iterator[tuple[object, ...]]) -> None:
    first = next(rows)
    marks = ",".join("?" * len(first))
    connection.execute(f"INSERT INTO {table} VALUES ({marks})", first)
    connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)


def _insert_people(connection: sqlite3.Connection) -> None:
    left = {"Claire Moreau": "2026-06-26", "Hugo Lambert": "2026-06-30"}
    _insert(connection, "regions", ((i, name) for i, name in enumerate(REGIONS, 1)))
    _insert(
        connection,
        "sales_people",
        (
            (i, name, REGIONS.index(region) + 1, f"{2015 + i % 8}-0{1 + i % 9}-01", left.get(name))
            for i, (name, region) in enumerate(PEOPLE, 1)
        ),
    )


def _insert_catalogue(connection: sqlite3.Connection, products: list[Product], lines: list[Line]) -> None:
    latest = {line.product.id: line for line in lines}
    _insert(connection, "categories", ((i, name) for i, name in enumerate(CATALOGUE, 1)))
    _insert(
        connection,
        "products",
        (
            (p.id, p.name, list(CATALOGUE).index(p.category) + 1, latest[p.id].price, latest[p.id].cost)
            for p in products
        ),
    )


def _insert_customers(connection: sqlite3.Connection, customers: list[Customer]) -> None:
    _insert(
        connection,
        "customers",
        ((c.id, c.name, c.segment, REGIONS.index(c.region) + 1, _signed_up(c).isoformat()) for c in customers),
    )


def _signed_up(customer: Customer) -> date:
    """Customers of the first day signed up at most eight years before."""
    return FIRST_DAY - timedelta(customer.id * 409 % 2900) if customer.since == FIRST_DAY else customer.since


def _insert_orders(connection: sqlite3.Connection, lines: list[Line]) -> None:
    orders = {line.order: (line.order, line.customer, line.seller, line.day.isoformat()) for line in lines}
    numbers: dict[int, int] = defaultdict(int)

    def rows() -> Iterator[tuple[object, ...]]:
        for line in lines:
            numbers[line.order] += 1
            yield (
                line.order,
                numbers[line.order],
                line.product.id,
                line.quantity,
                line.price,
                line.cost,
                line.discount,
            )

    _insert(connection, "orders", iter(orders.values()))
    _insert(connection, "order_lines", rows())


def _products() -> list[Product]:
    return [
        Product(
            id=8 * i + place + 1,
            name=name,
            category=category,
            price=price,
            cost=round(price * (1 - margin), 2),
            weight=round(CATEGORY_WEIGHTS[category] * PLACE_WEIGHTS[place] / 10),
        )
        for i, (category, (margin, items)) in enumerate(CATALOGUE.items())
        for place, (name, price) in enumerate(items)
    ]


def _customers(rng: Random) -> list[Customer]:
    """The two large ones, then many small ones. Some of these come late, some leave early."""
    named = [(f"{head} {tail}", segment) for head in NAME_HEADS for segment in SEGMENTS for tail in NAME_TAILS[segment]]
    small = [
        Customer(
            id=i,
            name=name,
            segment=segment,
            region=rng.choices(REGIONS, REGION_WEIGHTS)[0],
            share=rng.uniform(0.25, 0.85),
            since=_day(rng, FIRST_DAY + timedelta(30), LAST_DAY) if rng.random() < 0.18 else FIRST_DAY,
            until=_day(rng, FIRST_DAY + timedelta(200), LAST_DAY) if rng.random() < 0.10 else LAST_DAY,
        )
        for i, (name, segment) in enumerate(rng.sample(named, SMALL_CUSTOMERS), 3)
    ]
    return [Customer(1, *LOST_CUSTOMER), Customer(2, *WON_CUSTOMER), *(c for c in small if c.since <= c.until)]


def _day(rng: Random, first: date, last: date) -> date:
    return first + timedelta(rng.randrange((last - first).days + 1))


def _months() -> Iterator[tuple[date, int]]:
    """First day and number of days of each month."""
    first = FIRST_DAY
    while first <= LAST_DAY:
        following = (first + timedelta(32)).replace(day=1)
        yield first, (following - first).days
        first = following


def _lines(rng: Random, products: list[Product], customers: list[Customer]) -> Iterator[Line]:
    """Every order line, by day. A customer's orders in a month vary by one at most, by chance: noise must stay small
    beside the incidents, as in a business of many steady buyers."""
    sellers = {region: [i for i, (_, home) in enumerate(PEOPLE, 1) if home == region] for region in REGIONS}
    deck = _draws(rng, products)
    per_share = ORDERS_PER_MONTH / sum(c.share for c in customers if c.since == FIRST_DAY)
    order = 0
    for number, (first, days) in enumerate(_months()):
        level = SEASON[first.month - 1] * GROWTH_PER_MONTH**number * per_share
        due = sorted(
            (day, customer.id, customer)
            for customer in customers
            for day in _order_days(rng, customer, first, days, level)
        )
        for day, _, customer in due:
            order += 1
            home = "Central" if customer.region == LOST_REGION[0] and day >= LOST_REGION[1] else customer.region
            seller = sellers[home][customer.id % len(sellers[home])]
            for product in _basket(rng, deck, day):
                yield _line(rng, order, customer.id, seller, day, product)


def _order_days(rng: Random, customer: Customer, first: date, days: int, level: float) -> list[date]:
    expected = customer.share * level * (0.985 + 0.03 * rng.random())
    if customer.region == LOST_REGION[0] and first >= LOST_REGION[1]:
        expected *= LOST_REGION[2]
    chosen = [first + timedelta(rng.randrange(days)) for _ in range(int(expected + rng.random()))]
    return [day for day in chosen if customer.since <= day <= customer.until]


def _draws(rng: Random, products: list[Product]) -> Iterator[Product]:
    """An endless shuffled deck with each product as often as its weight: it varies less than random draws."""
    cards = [product for product in products for _ in range(product.weight)]
    while True:
        rng.shuffle(cards)
        yield from cards


def _basket(rng: Random, deck: Iterator[Product], day: date) -> Iterator[Product]:
    """The products of one order. Draws are independent of demand; a product in less demand, or out of stock, is then
    left out, and one in more demand is repeated. So an incident at one product never moves buyers to another."""
    for product in islice(deck, rng.choice(LINES_PER_ORDER)):
        yield from (product for _ in range(int(_demand(product, day) + rng.random())))


def _demand(product: Product, day: date) -> float:
    """Demand on that day, 1.0 being the usual."""
    for name, first, last in (STOCK_OUT, SMALL_STOCK_OUT):
        if product.name == name and first <= day <= last:
            return 0.0
    if product.category == PRICE_RISE[0] and day >= PRICE_RISE[1]:
        return PRICE_RISE[3]
    if product.category == PROMOTION[0] and PROMOTION[1] <= day <= PROMOTION[2]:
        return PROMOTION[4]
    return 1.0


def _line(rng: Random, order: int, customer: int, seller: int, day: date, product: Product) -> Line:
    rise = PRICE_RISE[2] if product.category == PRICE_RISE[0] and day >= PRICE_RISE[1] else 1.0
    dearer = COST_RISE[2] if product.category == COST_RISE[0] and day >= COST_RISE[1] else 1.0
    promoted = product.category == PROMOTION[0] and PROMOTION[1] <= day <= PROMOTION[2]
    return Line(
        order=order,
        customer=customer,
        seller=seller,
        day=day,
        product=product,
        quantity=max(1, int(LINE_VALUE * rng.uniform(0.7, 1.3) / product.price + rng.random())),
        price=round(product.price * rise, 2),
        cost=round(product.cost * dearer, 2),
        discount=PROMOTION[3] if promoted else 0.05 if rng.random() < 0.10 else 0.0,
    )


def _stock(products: list[Product], lines: list[Line]) -> Iterator[tuple[object, ...]]:
    """Stock of each product at the end of each day. A delivery on Mondays covers the next four weeks' sales; before a
    stock-out the deliveries cease, and the last one covers just the sales until then."""
    days = [FIRST_DAY + timedelta(n) for n in range((LAST_DAY - FIRST_DAY).days + 1)]
    sold: dict[tuple[int, date], int] = defaultdict(int)
    for line in lines:
        sold[line.product.id, line.day] += line.quantity
    for product in products:
        out = next((o for o in (STOCK_OUT, SMALL_STOCK_OUT) if o[0] == product.name), None)
        series = [sold[product.id, day] for day in days]
        on_hand = 0
        for n, day in enumerate(days):
            if out and out[1] - timedelta(28) <= day <= out[2]:
                on_hand = sum(sold[product.id, out[1] - timedelta(k)] for k in range(1, (out[1] - day).days))
            elif n == 0 or day.weekday() == 0 or (out and day == out[2] + timedelta(1)):
                on_hand = sum(series[n + 1 : n + 29]) + 25
            else:
                on_hand -= series[n]
            yield product.id, day.isoformat(), on_hand


if __name__ == "__main__":
    build(Path(sys.argv[1]))
