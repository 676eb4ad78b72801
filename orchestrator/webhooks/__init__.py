"""Webhooks: endpoints, deliveries, their schedule, their storage, and the sender."""
