"""What has to be right before a new version serves anybody: here, that every product has a price."""

import sys

from shop import PRICES

print(f"Checking {len(PRICES)} products")
unpriced = [product for product, price in PRICES.items() if price <= 0]
if unpriced:
    sys.exit(f"no price: {', '.join(unpriced)}")
print("Ready for release")
