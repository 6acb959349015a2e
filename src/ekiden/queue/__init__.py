"""The durable store, its schedule and its bounces."""
