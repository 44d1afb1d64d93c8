"""Recordings, framing and metrics: what a model is calibrated on and judged by."""
