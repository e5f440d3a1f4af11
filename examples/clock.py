"""The customers: an order or a look at the menu twice a second, and what was sold each 20 seconds."""

import random
import time
from urllib.error import HTTPError, URLError

from shop import PRICES, ask


def visit(sold: dict[str, int]) -> None:
    if random.random() < 0.3:
        ask("GET", "/")
        return
    product = random.choice([*PRICES, *PRICES, *PRICES, "samovar"])
    order = ask("POST", "/orders", {"product": product, "count": random.randint(1, 6)})
    sold[product] = sold.get(product, 0) + order["count"]


def main() -> None:
    sold: dict[str, int] = {}
    for tick in range(1, 1_000_000_000):
        time.sleep(0.5)
        try:
            visit(sold)
        except HTTPError as error:
            print(f"a customer went away: {error.code} {error.reason}")
        except URLError:
            print("a customer found the shop closed")
        if tick % 40 == 0:
            rows = (f"  {product:12}{count:4}{count * PRICES[product]:10.2f}" for product, count in sold.items())
            print("Sold in the last 20 seconds", *rows, sep="\n")
            sold.clear()


if __name__ == "__main__":
    main()
