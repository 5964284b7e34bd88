"""The Django web tier: pages, the JSON API, and the events that follow from them."""
