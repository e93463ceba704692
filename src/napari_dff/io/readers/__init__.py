"""Readers, one module for each format, and the acquisition that they return."""
