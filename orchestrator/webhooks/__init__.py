"""Webhooks: endpoints and deliveries, their schedule, their storage, and the sender."""
