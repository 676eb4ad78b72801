"""Doubles, for faults and instant answers that real parts cannot be made to give."""
