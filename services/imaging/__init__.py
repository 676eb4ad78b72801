"""Untrusted pictures in, checked pictures out."""
