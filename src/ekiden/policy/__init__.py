"""Acceptance at the door: who may send what to whom."""
