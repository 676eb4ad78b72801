"""Judges the results of a run: a judge by URL answers each benchmark's questions about each picture."""
