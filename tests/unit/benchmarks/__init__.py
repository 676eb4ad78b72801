"""Tests of the closed-loop benchmark."""
