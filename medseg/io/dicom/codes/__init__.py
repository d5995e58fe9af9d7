"""Coded concepts of structures (SNOMED CT) by the names labels have."""
