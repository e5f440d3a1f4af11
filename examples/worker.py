"""Packs one order after the other. Now and then something breaks, as in any shop."""

import random
import time
import traceback
from urllib.error import URLError

from shop import PRICES, ask

GREEN, YELLOW, PLAIN = "\x1b[32m", "\x1b[33m", "\x1b[0m"


def pack(order: dict) -> float:
    if random.random() < 0.05:
        raise RuntimeError(f"the {order['product']} of order {order['number']} broke")
    time.sleep(random.uniform(0.05, 0.4))
    return PRICES[order["product"]] * order["count"]


def main() -> None:
    while True:
        try:
            order = ask("GET", "/orders/next")
        except URLError:
            print(f"{YELLOW}the shop isn't open yet{PLAIN}")
            time.sleep(1)
            continue
        try:
            price = pack(order)
        except RuntimeError:
            traceback.print_exc()
            continue
        print(f"{GREEN}packed{PLAIN} order {order['number']}: {order['count']} x {order['product']}, {price:.2f}")


if __name__ == "__main__":
    main()
