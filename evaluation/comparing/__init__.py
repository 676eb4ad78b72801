"""Judges side by side over the same pictures, without a new edit: with each other, with people, and with themselves."""
