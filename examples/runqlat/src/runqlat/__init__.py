"""Histograms of how long threads wait for a CPU."""
